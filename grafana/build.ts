/**
 * `npm run dashboards`: writes the dashboards from their sources to grafana/dashboards/, from where Grafana is provisioned.
 * A test fails when a committed file is not what this writes.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { backendsCompared } from './backends-compared.ts';

/** File name to its text. */
export function dashboardFiles(): ReadonlyMap<string, string> {
  return new Map([['backends-compared.json', `${JSON.stringify(backendsCompared(), null, 2)}\n`]]);
}

if (import.meta.main) {
  const folder = join(dirname(fileURLToPath(import.meta.url)), 'dashboards');
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of dashboardFiles()) {
    writeFileSync(join(folder, name), text);
    console.log(`grafana/dashboards/${name}`);
  }
}
