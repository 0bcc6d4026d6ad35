/**
 * Prints a run's tally on one plain line after Vitest's own summary, and names every test that was skipped: a skipped peer
 * test must be seen, not missed.
 */
import type { Reporter, TestModule } from 'vitest/node';

export default class TallyReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    const count = { passed: 0, failed: errors.length, skipped: 0 };
    const skipped: string[] = [];
    for (const module of modules) {
      let ran = 0;
      for (const test of module.children.allTests()) {
        const result = test.result();
        ran++;
        if (result.state === 'passed') count.passed++;
        else if (result.state === 'failed') count.failed++;
        else {
          count.skipped++;
          const note = result.state === 'skipped' && result.note ? `: ${result.note}` : '';
          skipped.push(`${module.relativeModuleId} > ${test.fullName}${note}`);
        }
      }
      // A file that could not be loaded has no tests, and a hook that failed leaves its tests skipped.
      if (module.state() === 'failed' && (ran === 0 || module.errors().length > 0)) count.failed++;
    }
    for (const name of skipped) console.log(`SKIPPED ${name}`);
    console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
  }
}
