/** `npm run accuracy`: runs all scenarios, writes what they predict and docs/accuracy.md. A test holds both to the sources. */
import { writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { accuracyPage } from './page.ts';
import { predict } from './predictions.ts';

const FOLDER = dirname(fileURLToPath(import.meta.url));
export const PREDICTED_FILE = join(FOLDER, 'predicted.json');
export const PAGE_FILE = join(FOLDER, '../docs/accuracy.md');

if (import.meta.main) {
  const began = performance.now();
  const predictions = await predict((_key, result, seconds) => {
    process.stderr.write(`${result.events} events, ${seconds.toFixed(1)} s\n`);
  });
  writeFileSync(PREDICTED_FILE, `${JSON.stringify(predictions, null, 2)}\n`);
  writeFileSync(PAGE_FILE, accuracyPage(predictions));
  process.stderr.write(`docs/accuracy.md, ${((performance.now() - began) / 1000).toFixed(0)} s\n`);
}
