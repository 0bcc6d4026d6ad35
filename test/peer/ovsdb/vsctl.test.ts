/**
 * The recorded ovs-vsctl commands, one after the other, by the real ovs-vsctl at Open vSwitch's own daemons and at a topology of
 * ours: the recorded exit codes, and the same answers.
 */
import { readFileSync } from 'node:fs';
import { afterAll, expect } from 'vitest';
import { freePort } from '../../tools/free-port.ts';
import { type Answer, CLIENTS, DAEMONS, normalise, run, type Switch, startOurs, startReal } from '../ovs/switches.ts';
import { requirePeer } from '../peers.ts';

interface Recorded {
  readonly name: string;
  readonly command: readonly string[];
  readonly exit: number;
}
const file = new URL('../../vectors/ovsdb/vsctl.json', import.meta.url);
const { sessions } = JSON.parse(readFileSync(file, 'utf8')) as { readonly sessions: readonly Recorded[] };

/** Values of these columns depend on the machine. */
const OWN_COLUMNS =
  /^(datapath_id|datapath_version|statistics|status|ifindex|link_resets|mac_in_use|mtu|iface_types|datapath_types|datapaths|dpdk_\w+|ovs_version|db_version|system_\w+|external_ids|cur_cfg|next_cfg) +: .*$/;
/** Interfaces that are no devices of the host are dummies on both sides. */
const DUMMIES: Readonly<Record<string, readonly string[]>> = {
  '08-add-port': ['p1'],
  '09-add-port-tag': ['p2'],
  '10-add-port-trunks': ['p3'],
  '11-add-port-native-untagged': ['p4'],
  '14-add-bond': ['b1', 'b2'],
  '45-add-port-ofport-request': ['p5'],
};

const switches: { real: Switch | null; ours: Switch | null } = { real: null, ours: null };
const peerTest = requirePeer(...CLIENTS, ...DAEMONS);
peerTest.beforeAll(async () => {
  [switches.real, switches.ours] = await Promise.all([startReal(), startOurs()]);
});
afterAll(async () => {
  await Promise.all([switches.real?.stop(), switches.ours?.stop()]);
});

/** Lines in an order of their own: what has none follows UUIDs and hashes. */
function meaning(text: string): string[] {
  return (
    normalise(text)
      .replace(/ptcp:\d+/g, 'ptcp:PORT')
      .split('\n')
      .map((line) => line.replace(OWN_COLUMNS, '$1').replace(/ {2,}/g, ' '))
      // The real one is told its version by a script of the package, ovs-ctl.
      .filter((line) => !line.includes('ovs_version: '))
      .map((line) => (line.startsWith('{"data"') ? JSON.stringify(Object.keys(JSON.parse(line) as object)) : line))
      .sort()
  );
}

for (const { name, command, exit } of sessions) {
  peerTest(`${name}: ovs-vsctl ${command.slice(2).join(' ')}`, async () => {
    const ports = await Promise.all([freePort(), freePort()]);
    const ask = async (to: Switch, port: number): Promise<Answer> => {
      const args = command.slice(2).map((arg) => arg.replace('16642', String(port)));
      for (const dummy of DUMMIES[name] ?? []) args.push('--', 'set', 'Interface', dummy, 'type=dummy');
      const db = `--db=${to.ovsdb}`;
      if (name === '43-wait-until') {
        const waiting = run('ovs-vsctl', [db, ...args]);
        const added = await run('ovs-vsctl', [
          db,
          'add-port',
          'br0',
          'p9',
          '--',
          'set',
          'Interface',
          'p9',
          'type=dummy',
        ]);
        expect(added).toEqual({ status: 0, stdout: '', stderr: '' });
        return waiting;
      }
      // Recorded until it was killed: what is not done is waited for.
      if (name === '68-dry-run') args.unshift('--timeout=1');
      return run('ovs-vsctl', [db, ...args]);
    };
    const [real, ours] = await Promise.all([ask(switches.real!, ports[0]!), ask(switches.ours!, ports[1]!)]);
    expect(ours.status, ours.stderr).toBe(exit < 0 ? null : exit);
    expect(ours.status).toBe(real.status);
    expect(meaning(ours.stdout)).toEqual(meaning(real.stdout));
    expect(meaning(ours.stderr)).toEqual(meaning(real.stderr));
  });
}
