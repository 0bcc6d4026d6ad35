/**
 * Random bridges beside Open vSwitch's own daemon: ports with VLAN modes, flows of several tables, groups; frames that are traced one
 * after the other, and once more when MAC addresses are known. Datapath actions and what was looked at have to be the
 * same. Outputs are compared without their order, which follows a hash when a frame is flooded.
 */
import { afterAll, expect } from 'vitest';
import { type CompareCase, randomCase } from '../property/ovs-compare-cases.ts';
import { type Answer, OurSwitch } from '../property/ovs-compare-ours.ts';
import { makeBridge, outputs, setUp } from './ovs/compare-switches.ts';
import { CLIENTS, DAEMONS, run, type Switch, startReal } from './ovs/switches.ts';
import { Unixctl } from './ovs/unixctl.ts';
import { requirePeer } from './peers.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = Number(process.env['RINGSIDE_RUNS'] ?? (full ? 500 : 40));
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const peer = requirePeer(...CLIENTS, ...DAEMONS);
let real: Switch | null = null;
let control: Unixctl | null = null;

afterAll(async () => {
  control?.close();
  await real?.stop();
});

/** The daemon with a bridge of four dummy ports. */
async function start(): Promise<void> {
  control?.close();
  await real?.stop();
  real = await startReal();
  await makeBridge(real);
  control = await Unixctl.open(real.unixctl);
}

/** A trace with the lines about learning that only the first of several has. */
function withLearned(trace: string, first: string): string {
  const learned = first.split('\n').filter((line) => line.includes('-> learned that '));
  if (learned.length === 0 || trace.includes('-> learned that ')) return trace;
  const lines = trace.split('\n');
  const before = first.split('\n');
  for (const line of learned) lines.splice(before.indexOf(line), 0, line);
  return lines.join('\n');
}

async function alive(): Promise<boolean> {
  return (await run('ovs-appctl', ['-t', real!.unixctl, 'version'])).status === 0;
}

function answerOf(trace: string): Answer {
  const megaflow =
    /^Megaflow: (.*)$/m
      .exec(trace)?.[1]
      ?.replace(/recirc_id=0,?/, '')
      .replace(/\beth,?/, '') ?? 'none';
  const actions = /^Datapath actions: (.*)$/m.exec(trace)?.[1] ?? 'none';
  return { megaflow, actions };
}

/** The lines about ports that do not get a flooded frame, sorted: as the outputs they follow a hash. */
function sortFlooded(trace: string): string {
  const flooded = /^ *(?:FLOOD|ALL| -> no learned MAC for destination, flooding)\n((?: *>>.*\n)+)/gm;
  return trace.replace(flooded, (all: string, lines: string) => {
    const sorted = lines.trimEnd().split('\n').sort();
    return `${all.slice(0, all.length - lines.length)}${sorted.join('\n')}\n`;
  });
}

/**
 * A trace without what differs from run to run: the order of outputs, numbers of recirculations, which are counted from 1 here.
 */
function normalTrace(trace: string, hex: string): string {
  const ids: string[] = [];
  const numbered = (_: string, before: string, id: string): string => {
    const number = Number(id).toString();
    if (number !== '0' && !ids.includes(number)) ids.push(number);
    return `${before}${ids.indexOf(number) + 1}`;
  };
  return sortFlooded(trace)
    .replace(
      /^Datapath actions: (.*)$/gm,
      (_, actions: string) => `Datapath actions: ${outputs(actions, hex).join(' ; ')}`,
    )
    .replace(/controller\(reason=[^)]*\)/g, 'controller')
    .replace(/(recirc(?:_id=|_id\(|\())(0x[0-9a-f]+|\d+)/g, numbered)
    .trimEnd();
}

peer(
  'datapath actions and what was looked at are the same',
  async () => {
    const differences: string[] = [];
    let compared = 0;
    let ended = 0;
    await start();
    const one = async (of: CompareCase): Promise<void> => {
      await control!.ask('fdb/flush', 'br0');
      await control!.ask('revalidator/purge');
      const flows = await setUp(real!, of);
      const ours = new OurSwitch({ ...of, flows });
      if (ours.refused.length > 0) {
        differences.push(`seed ${of.seed}, refused by ours\n${ours.refused.join('\n')}`);
        return;
      }
      const compare = async (port: number, hex: string, when: string): Promise<void> => {
        const before = ours.trace(port, hex);
        const mine = ours.send(port, hex, true);
        const after = ours.trace(port, hex);
        // The daemon would trace it without an end.
        if (`${before}${after}`.includes('over 256 recirculations')) return;
        // Ours learns nothing by a trace, where the daemon does: a frame for its own sender is dropped there in the same trace.
        const texts = [before, withLearned(after, before)].map((text) => normalTrace(text, hex));
        const wanted = (answer: Answer): string => `${answer.megaflow} | ${outputs(answer.actions, hex).join(' ; ')}`;
        const trace = await control!.ask('ofproto/trace', 'br0', `in_port=${port}`, hex);
        compared++;
        if (wanted(answerOf(trace)) === wanted(mine) && texts.includes(normalTrace(trace, hex))) return;
        const setting = [
          ...of.ports.map(({ name, settings }) => `${name} ${settings.join(' ')}`),
          ...of.groups,
          ...flows,
        ].join('\n');
        differences.push(
          `seed ${of.seed}, ${when}, in_port=${port} ${hex}\n${setting}\n${trace}\nOURS:\n${mine.megaflow}\n${mine.actions}\n${texts[0]}\nTHEIRS:\n${normalTrace(trace, hex)}`,
        );
      };
      // A trace with a frame's bytes learns as the frame itself would: the second round finds MAC addresses.
      for (const { port, hex } of of.frames) await compare(port, hex, 'first');
      for (const { port, hex } of of.frames) await compare(port, hex, 'second');
    };
    for (let i = 0; i < RUNS; i++) {
      const of = randomCase(seed + i);
      try {
        await one(of);
      } catch (error) {
        // Some configurations are too much for the daemon itself: it fails an assertion of its own, and is started anew.
        if (await alive()) throw new Error(`seed ${of.seed}`, { cause: error });
        if (process.env['RINGSIDE_COMPARE'] !== undefined) console.log(`seed ${of.seed} ended the daemon`);
        ended++;
        await start();
      }
    }
    expect(ended).toBeLessThan(1 + RUNS / 10);
    if (process.env['RINGSIDE_COMPARE'] !== undefined) console.log(differences.join('\n\n'));
    expect(compared).toBeGreaterThan(RUNS * 5);
    expect(differences.length, `${differences.length} of ${compared}:\n${differences.slice(0, 3).join('\n\n')}`).toBe(
      0,
    );
  },
  900_000,
);
