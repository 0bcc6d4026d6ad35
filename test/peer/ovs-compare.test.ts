/**
 * Random bridges beside Open vSwitch's own daemon: ports with VLAN modes, flows of several tables, groups; frames that are traced one
 * after the other, and once more when MAC addresses are known. Datapath actions and what was looked at have to be the
 * same. Outputs are compared without their order, which follows a hash when a frame is flooded.
 */
import { afterAll, expect } from 'vitest';
import { type CompareCase, randomCase } from '../property/ovs-compare-cases.ts';
import { type Answer, OurSwitch } from '../property/ovs-compare-ours.ts';
import { CLIENTS, DAEMONS, ofctl, run, type Switch, startReal, vsctl } from './ovs/switches.ts';
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
  const ports = [1, 2, 3, 4].flatMap((n) => [
    ...['--', 'add-port', 'br0', `p${n}`],
    ...['--', 'set', 'Interface', `p${n}`, 'type=dummy', `ofport_request=${n}`],
  ]);
  const columns = ['fail_mode=secure', 'other_config:hwaddr=02:00:00:00:00:aa', 'protocols=OpenFlow10,OpenFlow15'];
  const made = await vsctl(real, 'add-br', 'br0', '--', 'set', 'Bridge', 'br0', ...columns, ...ports);
  expect(made.stderr).toBe('');
  control = await Unixctl.open(real.unixctl);
}

/** Empties the daemon's bridge and sets the case up; returns the flows that it took. */
async function setUp(to: Switch, of: CompareCase): Promise<string[]> {
  const columns = ['tag', 'trunks', 'vlan_mode', 'other_config'];
  const ports = of.ports.flatMap(({ name, settings }) => [
    ...['--', 'clear', 'Port', name, ...columns],
    ...['--', 'set', 'Port', name, 'protected=false', ...settings],
  ]);
  const said = [await vsctl(to, ...ports.slice(1))];
  said.push(await ofctl(to, '-O', 'OpenFlow15', 'del-groups', 'BRIDGE'));
  said.push(await ofctl(to, '-O', 'OpenFlow15', 'del-flows', 'BRIDGE'));
  for (const group of of.groups) said.push(await ofctl(to, '-O', 'OpenFlow15', 'add-group', 'BRIDGE', group));
  expect(said.map(({ stderr }) => stderr).join('')).toBe('');
  const all = await run(
    'ovs-ofctl',
    ['-O', 'OpenFlow15', 'add-flows', to.openflow('br0'), '-'],
    20,
    of.flows.join('\n'),
  );
  if (all.status === 0 && all.stderr === '') return [...of.flows];
  await ofctl(to, '-O', 'OpenFlow15', 'del-flows', 'BRIDGE');
  const taken: string[] = [];
  for (const flow of of.flows) {
    const { status, stderr } = await ofctl(to, '-O', 'OpenFlow15', 'add-flow', 'BRIDGE', flow);
    if (status === 0 && stderr === '') taken.push(flow);
  }
  return taken;
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
  return { megaflow, actions, final: null };
}

/** Each output with the tags that the frame has there, and what else was done to it; sorted. */
export function outputs(actions: string, hex: string): string[] {
  const tags: string[] = [];
  if (hex.slice(24, 28) === '8100') {
    const tci = Number.parseInt(hex.slice(28, 32), 16);
    tags.push(`vid=${tci & 0xfff},pcp=${tci >> 13}`);
  }
  const done: string[] = [];
  const found: string[] = [];
  for (const action of actions.match(/(?:[^,(]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))+/g) ?? []) {
    if (action.startsWith('push_vlan(')) tags.push(action.slice(10, -1));
    else if (action === 'pop_vlan') tags.pop();
    else if (/^(set|ct|hash|trunc|push|pop)/.test(action)) done.push(action);
    else found.push(`${done.join(' ')} [${tags.join(' ')}] ${action.replace(/recirc_id=\d+/, 'recirc_id')}`);
  }
  return found.sort();
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
      const compare = async (port: number, hex: string, when: string): Promise<void> => {
        const mine = ours.send(port, hex, true);
        const wanted = (answer: Answer): string => `${answer.megaflow} | ${outputs(answer.actions, hex).join(' ; ')}`;
        let trace = '';
        // The daemon drops deleted flows a little later, and looks at their masks until then: it is asked again.
        for (let tries = 0; tries < 4 && wanted(answerOf(trace)) !== wanted(mine); tries++) {
          if (tries > 1) await new Promise((resolve) => setTimeout(resolve, 20 * tries));
          trace = await control!.ask('ofproto/trace', 'br0', `in_port=${port}`, hex);
        }
        compared++;
        if (wanted(answerOf(trace)) === wanted(mine)) return;
        const setting = [
          ...of.ports.map(({ name, settings }) => `${name} ${settings.join(' ')}`),
          ...of.groups,
          ...flows,
        ].join('\n');
        differences.push(
          `seed ${of.seed}, ${when}, in_port=${port} ${hex}\n${setting}\n${trace}\nOURS:\n${mine.megaflow}\n${mine.actions}`,
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
