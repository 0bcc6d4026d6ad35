/**
 * `npm run dashboards`: writes the dashboards from their sources to grafana/dashboards/, from where Grafana is provisioned.
 * A test fails when a committed file is not what this writes.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { backendsCompared } from './backends-compared.ts';
import { deviceAndQueues } from './device-and-queues.ts';
import { experiments } from './experiments.ts';
import { openVswitch } from './open-vswitch.ts';
import { overview } from './overview.ts';

const DASHBOARDS = {
  'backends-compared.json': backendsCompared,
  'device-and-queues.json': deviceAndQueues,
  'experiments.json': experiments,
  'open-vswitch.json': openVswitch,
  'overview.json': overview,
} as const;

/** File name to its text. */
export function dashboardFiles(): ReadonlyMap<string, string> {
  return new Map(Object.entries(DASHBOARDS).map(([name, build]) => [name, `${JSON.stringify(build(), null, 2)}\n`]));
}

if (import.meta.main) {
  const folder = join(dirname(fileURLToPath(import.meta.url)), 'dashboards');
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of dashboardFiles()) {
    writeFileSync(join(folder, name), text);
    console.log(`grafana/dashboards/${name}`);
  }
}
