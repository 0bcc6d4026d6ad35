/** Endpoints of a world: what is listened on, and how it follows the bridges that come and go. */
import { expect, test } from 'vitest';
import { parseTopology } from '../../../src/lab/document.ts';
import { Endpoints, type HostNetwork } from '../../../src/lab/endpoints.ts';
import type { OvsDoors } from '../../../src/machine/ovs/doors.ts';
import type { Acceptor, Door } from '../../../src/machine/ovs/stream.ts';

const acceptor = (): Acceptor => ({ accept: () => ({ receive: () => {}, closed: () => {} }) });
const DOOR: Door = { now: () => 0, act: (_command, _detail, run) => run(0, 0) };

/** A network in memory: what is listened on, by target. */
class FakeNetwork implements HostNetwork {
  readonly folder = '/run/t1/h1';
  readonly open = new Map<string, Acceptor>();
  readonly answers: (() => void)[] = [];
  taken: string | null = null;
  private port = 1000;
  closed = false;

  listen(
    target: string,
    to: Acceptor,
    listening: (target: string) => void,
    failed: (error: string) => void,
  ): () => void {
    const where = target === 'ptcp:0' ? `ptcp:${++this.port}:127.0.0.1` : target;
    this.answers.push(() => {
      if (target === this.taken) failed('Address already in use');
      else {
        this.open.set(where, to);
        listening(where);
      }
    });
    return () => this.open.delete(where);
  }
  dial(): () => void {
    return () => {};
  }
  async close(): Promise<void> {
    this.closed = true;
  }
  answer(): void {
    for (const answer of this.answers.splice(0)) answer();
  }
}

function setUp(ovsdbPort?: number) {
  const parsed = parseTopology(
    {
      hosts: [
        {
          name: 'h1',
          ...(ovsdbPort === undefined ? {} : { ovs: { ovsdbPort } }),
          bridges: [{ name: 'br0', openflowPort: 6653 }],
        },
      ],
    },
    { name: 't1' },
  );
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.faults));
  const network = new FakeNetwork();
  const bridges = new Map([['br0', acceptor()]]);
  const connected: unknown[] = [];
  const doors = {
    host: 'h1',
    contextBits: 0,
    ovsdb: acceptor(),
    unixctl: acceptor(),
    bridges,
    onBridges: () => {},
    connect: (...with_: unknown[]) => connected.push(with_),
    tick: () => {},
  } as unknown as OvsDoors;
  const endpoints = new Endpoints(
    parsed.topology,
    [doors],
    () => DOOR,
    () => network,
  );
  return { endpoints, network, bridges, doors, connected };
}

test('targets as clients take them; ready once all have been heard of', async () => {
  const { endpoints, network, connected } = setUp();
  let ready = false;
  const waiting = endpoints.ready.then(() => {
    ready = true;
  });
  await Promise.resolve();
  expect(ready).toBe(false);
  network.answer();
  await waiting;
  expect(endpoints.list).toEqual([
    { host: 'h1', protocol: 'ovsdb', target: 'tcp:127.0.0.1:1001' },
    { host: 'h1', protocol: 'ovsdb', target: 'unix:/run/t1/h1/db.sock' },
    { host: 'h1', protocol: 'unixctl', target: '/run/t1/h1/ovs-vswitchd.ctl' },
    { host: 'h1', bridge: 'br0', protocol: 'openflow', target: 'tcp:127.0.0.1:6653' },
    { host: 'h1', bridge: 'br0', protocol: 'openflow', target: 'unix:/run/t1/h1/br0.mgmt' },
  ]);
  expect(connected).toEqual([[DOOR, network]]);
  await endpoints.close();
  expect(network.closed).toBe(true);
});

test('bridges come and go: theirs alone', () => {
  const { endpoints, network, bridges, doors } = setUp();
  network.answer();
  const second = acceptor();
  bridges.set('br1', second);
  doors.onBridges();
  network.answer();
  expect(endpoints.list.slice(5)).toEqual([
    { host: 'h1', bridge: 'br1', protocol: 'openflow', target: 'tcp:127.0.0.1:1002' },
    { host: 'h1', bridge: 'br1', protocol: 'openflow', target: 'unix:/run/t1/h1/br1.mgmt' },
  ]);
  expect(network.open.get('punix:/run/t1/h1/br1.mgmt')).toBe(second);
  bridges.delete('br0');
  doors.onBridges();
  expect([...network.open.keys()].filter((t) => t.includes('br0') || t.includes('6653'))).toEqual([]);
  expect(network.open.get('punix:/run/t1/h1/br1.mgmt')).toBe(second);
  // a bridge of the same name is another one
  const again = acceptor();
  bridges.set('br1', again);
  doors.onBridges();
  network.answer();
  expect(network.open.get('punix:/run/t1/h1/br1.mgmt')).toBe(again);
});

test('what cannot be had is said, and forgotten once it is there', async () => {
  const { endpoints, network } = setUp(6640);
  network.taken = 'ptcp:6640';
  const again = network.answers[0]!;
  network.answer();
  await endpoints.ready;
  expect(endpoints.list[0]).toEqual({
    host: 'h1',
    protocol: 'ovsdb',
    target: 'tcp:127.0.0.1:6640',
    error: 'Address already in use',
  });
  network.taken = null;
  again();
  expect(endpoints.list[0]).toEqual({ host: 'h1', protocol: 'ovsdb', target: 'tcp:127.0.0.1:6640' });
});
