/** The data plane keeps the rules of what was recorded on QEMU 7.2, and docs/golden-counts.md is what the runs are now. */
import { beforeAll, describe, expect, test } from 'vitest';
import { GOLDEN_PAGE, goldenDocument } from '../tools/golden-docs.ts';
import { readText } from '../tools/source.ts';
import { type Compared, compareAll, ownRuns, recordedRuns } from './golden.ts';
import { DIFFERENCES, type GoldenRun, judgeRuns } from './golden-rules.ts';
import { CONFIGS, OPTIONS, WITHOUT_RUN } from './golden-runs.ts';

let compared: Compared[];
beforeAll(() => {
  compared = compareAll();
});

const told = (run: GoldenRun): string => {
  const { row, queue, counts } = run;
  return `${row.config}, ${row.workload}, ${row.frames} x ${row.bytes}, ${queue}: ${JSON.stringify(counts)}`;
};

test('the recorded rows keep every rule, and each rule speaks of some of them', () => {
  for (const { rule, checked, broken } of judgeRuns(recordedRuns())) {
    expect(checked, rule.text).toBeGreaterThan(0);
    expect(broken.map(told), rule.text).toEqual([]);
  }
});

describe.each(['own', 'slow'] as const)('runs here, %s costs of the guest', (which) => {
  test('keep every rule but those that are said to differ', () => {
    for (const { rule, checked, broken } of judgeRuns(ownRuns(compared, which))) {
      expect(checked, rule.text).toBeGreaterThan(0);
      if (rule.text in DIFFERENCES) expect(broken.length, `no difference any more: ${rule.text}`).toBeGreaterThan(0);
      else expect(broken.map(told), rule.text).toEqual([]);
    }
  });
});

test('a slow guest runs its receive ring empty, as in the recording; a long ring does not', () => {
  const doorbells = (config: string, bytes: number): number =>
    compared.find(
      ({ row }) =>
        row.config === config && row.workload === 'udp_rx_host_to_guest' && row.frames === 1000 && row.bytes === bytes,
    )!.slow!.rx.doorbells;
  expect(doorbells('base_split', 64)).toBeGreaterThan(3);
  expect(doorbells('rx_queue_1024', 64)).toBe(0);
});

test('every option set has runs or a reason', () => {
  expect([...Object.keys(OPTIONS), ...Object.keys(WITHOUT_RUN)].sort()).toEqual(Object.keys(CONFIGS).sort());
});

test('docs/golden-counts.md is up to date: npm run golden', () => {
  expect(goldenDocument(compared) === readText(GOLDEN_PAGE), 'out of date: npm run golden').toBe(true);
});
