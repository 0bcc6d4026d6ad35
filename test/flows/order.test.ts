/** Every flow happens in a run as it is told: the order of its events, what each one took, and how often. */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { COSTS } from '../../src/engine/costs.ts';
import { Ringside } from '../tools/ringside.ts';
import { checkTimes, matchSteps, record } from './flow.ts';
import { COUNTED_FROM, FLOWS } from './flows.ts';
import { since } from './scopes.ts';

let server: Ringside;
beforeAll(async () => {
  server = await Ringside.start();
});
afterAll(async () => await server.stop());

for (const flow of FLOWS) {
  test(`${flow.id}: ${flow.title}`, async () => {
    const recording = await record(server, flow);
    checkTimes(flow, matchSteps(flow, recording.events));
    const counted = since(recording.events, COUNTED_FROM[flow.id] ?? 1);
    for (const count of flow.counts) expect(counted.filter(count.of).length, count.text).toBe(count.expected);
  });
}

test('the set-up takes one userspace exit for each access, a system call for each of a program, and nothing else takes time', async () => {
  const cost = (name: string): number => COSTS.find((c) => c.name === name)?.default ?? 0;
  const exit = cost('vm_exit_userspace');
  const syscall = cost('syscall_entry_exit');
  const vu1 = FLOWS.find((f) => f.id === 'vu-1')!;
  const withoutIommu = JSON.parse(JSON.stringify(vu1.document).replaceAll('"iommu":{"mode":"strict"},', '')) as object;
  for (const id of ['dd-1', 'dd-4', 'vu-1']) {
    const flow = FLOWS.find((f) => f.id === id)!;
    const { events } = await record(server, id === 'vu-1' ? { ...flow, document: withoutIommu } : flow);
    const probing = events.filter((e) => e.context === 'a/vcpu0');
    const end = probing.findLastIndex((e) => e.event === 'virtio.status');
    let exits = 0;
    let calls = 0;
    for (const e of probing.slice(0, end + 1)) {
      if (/^kvm\.exit_.*_user$/.test(e.event)) exits++;
      if (/^(vfio\.(open|ioctl)|dpdk\.memory)$/.test(e.event)) calls++;
      expect(e.ns, `${id}: event ${e.seq} ${e.event}`).toBe(exits * exit + calls * syscall);
    }
  }
});
