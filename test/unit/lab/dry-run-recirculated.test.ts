/** Dry runs of frames that recirculate: the twin knows tracked connections, and what recirculation ids stand for. */
import { expect, test } from 'vitest';
import { RingReader } from '../../../src/engine/event-ring.ts';
import { learnedState, Rehearsal } from '../../../src/lab/dry-run.ts';
import type { DryRunSpec, RehearsalResult } from '../../../src/lab/protocol.ts';
import type { World } from '../../../src/lab/world.ts';
import { findJourney } from '../../../src/readers/journey/journey.ts';
import { makeWorld, pairDocument, runOut } from './world-driver.ts';

const FLOWS = [
  'table=0,priority=100,ip,actions=ct(table=1)',
  'table=0,priority=1,actions=NORMAL',
  'table=1,priority=2,ct_state=+trk+new,ip,actions=ct(commit),NORMAL',
  'table=1,priority=2,ct_state=+trk+est,ip,actions=load:7->NXM_NX_REG0[],NORMAL',
];
function dryRun(world: World, spec: DryRunSpec): RehearsalResult {
  const rehearsal = new Rehearsal(world.machine.topology, structuredClone(learnedState(world.machine)), spec);
  for (;;) {
    const result = rehearsal.turn(1000);
    if (result !== null) return result;
  }
}
/** What became of a frame, and which caches it met. */
function met(reader: RingReader, frame: number): string {
  const search = findJourney(reader, frame);
  for (;;) {
    const { done, value } = search.next();
    if (!done) continue;
    if (value.kind !== 'found') return value.kind;
    return [value.journey.outcome, ...value.journey.hops.map(({ cache }) => cache ?? '')].join(' ');
  }
}

test.each(['vhost-net', 'vhost-user'] as const)('%s: each frame does what its dry run said', (backend) => {
  const document = pairDocument(backend) as { hosts: { bridges: object[] }[] };
  Object.assign(document.hosts[0]!.bridges[0]!, { flows: FLOWS, failMode: 'secure' });
  const world = makeWorld(document);
  const udp = (id: string, from: string, to: string): Extract<DryRunSpec, { from: string }> => ({
    ...{ id, kind: 'udp', from, to, frameSize: 300, count: 1, rate: 0, generator: null, flows: 1 },
  });
  const specs = [
    { ...udp('ping', 'a/net0', 'b/net0'), kind: 'ping' as const },
    udp('new', 'a/net0', 'b/net0'),
    udp('again', 'a/net0', 'b/net0'),
    udp('answer', 'b/net0', 'a/net0'),
    udp('established', 'a/net0', 'b/net0'),
  ];
  for (const spec of specs) {
    const result = dryRun(world, spec);
    const born = world.machine.recorder.frames;
    world.startTraffic(spec);
    runOut(world);
    expect(result.frames, spec.id).toBe(world.machine.recorder.frames - born);
    const real = new RingReader(world.machine.arena.buffer, world.machine.catalog);
    const twin = new RingReader(result.memory, result.catalog);
    for (let i = 1; i <= result.frames; i++) expect(met(twin, i), `${spec.id}, ${i}`).toBe(met(real, born + i));
    expect(result.endNs, spec.id).toBe(world.now);
  }
});
