/** Open vSwitch of a world that has failed: its timers and sockets end nothing but themselves. */
import { expect, test } from 'vitest';
import { buildMachine } from '../../../src/lab/builder.ts';
import { parseTopology } from '../../../src/lab/document.ts';
import { Refusal } from '../../../src/lab/refusal.ts';
import { World } from '../../../src/lab/world.ts';
import type { Streams } from '../../../src/machine/ovs/stream.ts';

test('a host of a failed world is ticked, and its connections fail, without an error that reaches the thread', () => {
  const parsed = parseTopology({
    name: 't',
    hosts: [{ name: 'h1', bridges: [{ name: 'br0', controllers: ['tcp:192.0.2.1:6653'] }] }],
  });
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const world = new World(parsed.topology, buildMachine(parsed.topology, null));
  const ovs = world.machine.ovs[0]!;
  const door = world.door(ovs);
  const failures: ((error: string) => void)[] = [];
  const streams: Streams = {
    dial: (_target, _connected, failed) => {
      failures.push(failed);
      return () => {};
    },
    listen: () => () => {},
  };
  ovs.connect(door, streams);
  door.act('test', null, () =>
    ovs.db.transact([
      { op: 'insert', table: 'Manager', 'uuid-name': 'm', row: { target: 'tcp:192.0.2.1:6640' } },
      { op: 'update', table: 'Open_vSwitch', where: [], row: { manager_options: ['named-uuid', 'm'] } },
    ]),
  );
  expect(failures.length).toBeGreaterThan(0);
  const fail = (): void => {
    throw new Error('ours');
  };
  expect(() => door.act('test', null, fail)).toThrow(Refusal);
  expect(world.status().state).toBe('FAILED');
  for (let second = 1; second <= 20; second++) {
    for (const failed of failures.splice(0)) failed('Connection refused');
    ovs.tick(second * 1000);
  }
  // Who asks is refused still.
  expect(() => door.act('test', null, () => {})).toThrow(Refusal);
});
