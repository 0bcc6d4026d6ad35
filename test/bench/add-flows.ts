/**
 * How long the real `ovs-ofctl add-flows` takes for a file of 100,000 flows, at a bridge of ours and at Open vSwitch's own daemon with
 * dummy devices, one after the other; then `dump-aggregate` counts them. `node test/bench/add-flows.ts [rounds]`.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ofctl, type Switch, startOurs, startReal, vsctl } from '../peer/ovs/switches.ts';

const FLOWS = 100_000;
const rounds = Number(process.argv[2] ?? 3);

const folder = mkdtempSync(join(tmpdir(), 'flows-'));
const file = join(folder, 'flows.txt');
const lines = Array.from({ length: FLOWS }, (_, i) => {
  const ip = `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`;
  return `priority=${100 + (i % 7)},tcp,in_port=${1 + (i % 3)},nw_dst=${ip},tp_dst=${1 + (i % 1000)},actions=output:${1 + ((i + 1) % 3)}`;
});
writeFileSync(file, `${lines.join('\n')}\n`);

async function measure(name: string, to: Switch): Promise<void> {
  const made = await vsctl(to, 'add-br', 'br0', '--', 'set-fail-mode', 'br0', 'secure');
  if (made.status !== 0) throw new Error(made.stderr);
  for (let i = 0; i < rounds; i++) {
    await ofctl(to, 'del-flows', 'BRIDGE');
    const began = performance.now();
    const { status, stderr } = await ofctl(to, 'add-flows', 'BRIDGE', file);
    const seconds = (performance.now() - began) / 1000;
    if (status !== 0) throw new Error(stderr);
    const { stdout } = await ofctl(to, 'dump-aggregate', 'BRIDGE');
    console.log(`${name}: ${FLOWS} flows in ${seconds.toFixed(2)} s; ${stdout.match(/flow_count=\d+/)?.[0]}`);
  }
}

const real = await startReal();
await measure('Open vSwitch', real).finally(() => real.stop());
const ours = await startOurs();
await measure('Ringside', ours).finally(() => ours.stop());
rmSync(folder, { recursive: true });
