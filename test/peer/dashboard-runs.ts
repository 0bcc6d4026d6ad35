/** What every dashboard shows for the run on each backend, against what the run says of itself. */
import { describe, expect } from 'vitest';
import type { Sample } from '../tools/prometheus.ts';
import { BACKENDS, columnQuery, type DashboardTraffic, FRAMES, panelQuery } from './dashboard-traffic.ts';
import type { PeerTest } from './peers.ts';

export function describeRuns(peer: PeerTest, traffic: () => DashboardTraffic): void {
  describe.each(BACKENDS)('a run on %s: what is shown is what the run says, within 1 %', (backend) => {
    /** Within 1 %, or a few events where they are few. */
    function near(shown: number, said: number, frames: number, what: string): void {
      expect(Math.abs(shown - said), `${what}: shown ${shown}, the run says ${said}`).toBeLessThanOrEqual(
        Math.max(0.01 * said, 3 / frames),
      );
    }
    const of = async (expression: string, more: Readonly<Record<string, string>> = {}): Promise<number> => {
      const { window, at_s } = traffic().measured[backend];
      const samples = await traffic().ask(expression, { topology: 'compare' }, window, at_s);
      const wanted = samples.filter(({ labels }) =>
        Object.entries({ backend, ...more }).every(([name, value]) => labels[name] === value),
      );
      expect(wanted.length, `no series for ${backend}\n${expression}`).toBeGreaterThan(0);
      return wanted.reduce((sum, { value }) => sum + value, 0);
    };
    const PAGE = 'Backends compared';

    peer('per frame', async () => {
      const { run: said } = traffic().measured[backend];
      for (const [panel, column, key] of [
        ['Exits per frame, answered in the kernel', 'Exits, kernel', 'exitsKernel'],
        ['Exits per frame, answered in userspace', 'Exits, userspace', 'exitsUserspace'],
        ['Kicks per frame', 'Kicks', 'kicks'],
        ['Suppressed kicks per frame', 'Kicks suppressed', 'kicksSuppressed'],
        ['Interrupts per frame', 'Interrupts', 'interrupts'],
        ['Suppressed interrupts per frame', 'Interrupts suppressed', 'interruptsSuppressed'],
        ['Copies per frame', 'Copies', 'copies'],
        ['System calls per frame', 'System calls', 'syscalls'],
      ] as const) {
        const value = said.perFrame[key] ?? Number.NaN;
        near(await of(panelQuery(PAGE, panel)), value, said.received, panel);
        near(
          await of(columnQuery(PAGE, 'Per frame received, over the time range', column)),
          value,
          said.received,
          column,
        );
      }
      for (const [column, key] of [
        ['Copied bytes', 'copiedBytes'],
        ['Wake-ups', 'wakeups'],
      ] as const) {
        const shown = await of(columnQuery(PAGE, 'Per frame received, over the time range', column));
        near(shown, said.perFrame[key] ?? Number.NaN, said.received, column);
      }
      for (const [reason, exits] of Object.entries(said.exitsByReason)) {
        const panel = 'All exits per frame, by reason and by who handled them';
        near(await of(panelQuery(PAGE, panel), { reason }), exits / said.received, said.received, reason);
      }
    });

    peer('per gigabit', async () => {
      const { run: said } = traffic().measured[backend];
      const gigabits = (said.virtual.frameBitsPerSecond * said.virtual.durationSeconds) / 1e9;
      const per = (key: string): number => ((said.perFrame[key] ?? Number.NaN) * said.received) / gigabits;
      for (const [column, value] of [
        ['Exits, kernel', per('exitsKernel')],
        ['Exits, userspace', per('exitsUserspace')],
        ['Kicks', per('kicks')],
        ['Interrupts', per('interrupts')],
        ['Copies', per('copies')],
        ['Copied bytes', per('copiedBytes')],
        ['System calls', per('syscalls')],
      ] as const) {
        const shown = await of(columnQuery(PAGE, 'Per gigabit received, over the time range', column));
        near(shown, value, gigabits, column);
      }
      near(await of(panelQuery(PAGE, 'Copied bytes per gigabit')), per('copiedBytes'), gigabits, 'Copied bytes');
      near(
        await of(panelQuery(PAGE, 'Device exits per gigabit')),
        per('exitsKernel') + per('exitsUserspace'),
        gigabits,
        'Device exits',
      );
    });

    peer('throughput and latency', async () => {
      const { virtual, received } = traffic().measured[backend].run;
      const table = 'Throughput and latency, over the time range';
      expect(await of(columnQuery(PAGE, table, 'Frames'))).toBe(received);
      for (const [panel, column, value] of [
        ['Throughput, frames', 'Frames per virtual second', virtual.framesPerSecond],
        ['Throughput, bits', 'Bits per virtual second', virtual.frameBitsPerSecond],
      ] as const) {
        near(await of(panelQuery(PAGE, panel)), value, 1, panel);
        near(await of(columnQuery(PAGE, table, column)), value, 1, column);
      }
      for (const [column, refId] of [
        ['p50', 'A'],
        ['p90', 'B'],
        ['p99', 'C'],
      ] as const) {
        const said = virtual.latencySeconds[column] ?? Number.NaN;
        for (const expression of [
          panelQuery(PAGE, 'Latency of a frame', refId),
          columnQuery(PAGE, table, `Latency ${column}`),
        ]) {
          const shown = await of(expression);
          // Of one bucket, whose bounds are a factor of two apart. Beyond the first 65,536 frames one group of 64 in 64 counts, 64 times:
          // a group that met a pause is more than a hundredth of these frames, which takes p99 to the bucket beside.
          const factor = column === 'p99' ? 4 : 2;
          expect(shown / said, `${column}: shown ${shown}, the run says ${said}`).toBeGreaterThan(1 / factor);
          expect(shown / said, `${column}: shown ${shown}, the run says ${said}`).toBeLessThan(factor);
        }
      }
    });

    peer('queues', async () => {
      const page = 'Device and queues';
      const table = 'Queues, over the time range';
      const { run: said } = traffic().measured[backend];
      expect(said.queues.length).toBe(4);
      for (const { guest, queue, kicks, kicksSuppressed, interrupts, interruptsSuppressed } of said.queues) {
        const column = (name: string): Promise<number> => of(columnQuery(page, table, name), { guest, queue });
        near(await column('Kicks'), kicks, 1, `${guest} ${queue} kicks`);
        near(await column('Interrupts'), interrupts, 1, `${guest} ${queue} interrupts`);
        const where = `${guest} ${queue}`;
        const carried = (guest.endsWith('-a') ? 'tx0' : 'rx0') === queue;
        if (carried) near(await column('Frames'), said.received, said.received, where);
        if (kicks + kicksSuppressed > 0) {
          near(await column('Kicks suppressed'), kicksSuppressed / (kicks + kicksSuppressed), said.received, where);
        }
        if (interrupts + interruptsSuppressed > 0) {
          const share = interruptsSuppressed / (interrupts + interruptsSuppressed);
          near(await column('Interrupts suppressed'), share, said.received, where);
        }
        if (carried && kicks > 0) near(await column('Frames per kick'), said.received / kicks, 1, where);
        if (carried && interrupts > 0) near(await column('Frames per interrupt'), said.received / interrupts, 1, where);
      }
    });

    peer('lookups and ports', async () => {
      const page = 'Open vSwitch';
      const { run: said, window, at_s } = traffic().measured[backend];
      const bridge = backend === 'vhost-user' ? 'br1' : 'br0';
      const shown = async (expression: string, wanted: Readonly<Record<string, string>>): Promise<number> => {
        const samples = await traffic().ask(expression, { topology: 'compare' }, window, at_s);
        const found = samples.filter(({ labels }) => Object.entries(wanted).every(([key, is]) => labels[key] === is));
        expect(found.length, `${JSON.stringify(wanted)}\n${expression}`).toBeGreaterThan(0);
        return found.reduce((sum, { value }) => sum + value, 0);
      };
      const column = (name: string): Promise<number> =>
        shown(columnQuery(page, 'Bridges, over the time range', name), { bridge });
      // Each frame is looked up once, and found or not.
      near(await column('Lookups'), FRAMES, 1, 'lookups');
      const [hit, emc, megaflow, miss] = [
        await column('Hit'),
        await column('EMC hit'),
        await column('Megaflow hit'),
        await column('Miss'),
      ];
      expect(hit + emc + megaflow + miss).toBeCloseTo(1, 6);
      expect(bridge === 'br0' ? hit : emc + megaflow).toBeGreaterThan(0.99);
      near(await shown(panelQuery(page, 'Hit ratio'), { bridge }), 1 - miss, FRAMES, 'hit ratio');
      // Virtual time is the run's, but for what passes before its first frame and after its last one.
      const seconds = said.virtual.durationSeconds;
      for (const [panel, end] of [
        ['Port ingress, frames', 'a'],
        ['Port egress, frames', 'b'],
      ] as const) {
        const perSecond = await shown(panelQuery(page, panel), { place: `${bridge}/${backend}-${end}.net0` });
        near(perSecond, FRAMES / seconds, 1, panel);
      }
      if (backend !== 'vhost-user') return;
      const pmd = said.contexts.find(({ name }) => name.startsWith('pmd-'));
      const busy = await shown(panelQuery(page, 'PMD busy and idle'), { context: pmd?.name ?? 'no PMD' });
      expect(Math.abs(busy - (pmd?.busyRatio ?? Number.NaN))).toBeLessThan(0.01);
      const idle = await shown(panelQuery(page, 'PMD busy and idle', 'B'), { context: pmd?.name ?? 'no PMD' });
      expect(busy + idle).toBeCloseTo(1, 9);
      const perPacket = await shown(panelQuery(page, 'PMD time per packet'), {});
      expect(perPacket / (((pmd?.busyRatio ?? Number.NaN) * seconds) / FRAMES)).toBeCloseTo(1, 1);
    });

    peer('overview', async () => {
      const { run: said, window, at_s } = traffic().measured[backend];
      const shown = async (panel: string, refId = 'A'): Promise<Sample[]> =>
        traffic().ask(panelQuery('Overview', panel, refId), { topology: 'compare' }, window, at_s);
      const all = (samples: Sample[]): number => samples.reduce((sum, { value }) => sum + value, 0);
      const exits = Object.values(said.exitsByReason).reduce((sum, n) => sum + n, 0);
      near(all(await shown('Exits per frame')), exits / said.received, said.received, 'exits');
      near(all(await shown('Throughput, frames', 'A')), said.virtual.framesPerSecond, 1, 'sent');
      near(all(await shown('Throughput, frames', 'B')), said.virtual.framesPerSecond, 1, 'received');
      near(all(await shown('Throughput, bits')), said.virtual.frameBitsPerSecond, 1, 'bits');
      expect(all(await shown('Where frames ended', 'A'))).toBe(1);
      expect((await shown('Conservation')).map(({ value }) => value)).toEqual([1]);
      expect((await shown('Frames in flight')).map(({ value }) => value)).toEqual([0]);
      expect((await shown('Runs in progress')).map(({ value }) => value)).toEqual([0]);
    });

    peer('CPU', async () => {
      const { run: said, window, at_s } = traffic().measured[backend];
      const shown = await traffic().ask(panelQuery(PAGE, 'CPU per context'), { topology: 'compare' }, window, at_s);
      expect(said.contexts.length).toBeGreaterThan(1);
      for (const { name, busyRatio } of said.contexts) {
        const sample = shown.find(({ labels }) => labels['context'] === name);
        expect(Math.abs((sample?.value ?? -1) - busyRatio), `${name}: ${sample?.value}, ${busyRatio}`).toBeLessThan(
          0.01,
        );
      }
      const busy = said.contexts.reduce((sum, { busyRatio }) => sum + busyRatio, 0) * said.virtual.durationSeconds;
      const perFrame = await of(panelQuery(PAGE, 'CPU time per frame'));
      expect(perFrame / (busy / said.received)).toBeGreaterThan(0.99);
      expect(perFrame / (busy / said.received)).toBeLessThan(1.01);
    });
  });
}
