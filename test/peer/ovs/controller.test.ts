/** A controller of os-ken runs a learning switch over a bridge of ours, in real time; and is started again in the middle. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, describe, expect } from 'vitest';
import { freePort } from '../../tools/free-port.ts';
import { readText } from '../../tools/source.ts';
import { requirePeer } from '../peers.ts';
import { CLIENTS, ofctl, startOurs, vsctl } from './switches.ts';

/** The one that docs/ovs.md gives its readers. */
const APP = /^cat > switch\.py <<'END'\n([\s\S]*?)^END$/m.exec(readText('docs/ovs.md'))![1]!;
const DOCUMENT = {
  clock: { mode: 'real' },
  hosts: [
    {
      name: 'h1',
      bridges: [{ name: 'br0' }],
      guests: ['a', 'b', 'c'].map((name, i) => ({
        name,
        nics: [{ name: 'eth0', backend: 'vhost-net', bridge: 'br0', addresses: [`10.0.0.${i + 1}/24`] }],
      })),
    },
  ],
};

interface Ping {
  readonly state: string;
  readonly sent: number;
  readonly received: number;
}

const peer = requirePeer('osken-manager', ...CLIENTS);
describe('a learning switch of os-ken', () => {
  let ours: Awaited<ReturnType<typeof startOurs>>;
  let controller: ChildProcess | null = null;
  let port = 0;
  let folder = '';

  const startController = (): void => {
    const args = ['--ofp-listen-host', '127.0.0.1', '--ofp-tcp-listen-port', String(port), join(folder, 'switch.py')];
    controller = spawn('osken-manager', args, { stdio: 'ignore' });
  };
  const stopController = async (): Promise<void> => {
    if (controller === null || controller.exitCode !== null || controller.signalCode !== null) return;
    const gone = new Promise((resolve) => controller?.once('close', resolve));
    controller.kill('SIGKILL');
    await gone;
    controller = null;
  };
  const connected = async (want: boolean): Promise<void> => {
    let last = '';
    for (let i = 0; i < 300; i++) {
      last = (await vsctl(ours, '--bare', '--columns=is_connected', 'list', 'Controller')).stdout.trim();
      if (last === String(want)) return;
      await pause(100);
    }
    throw new Error(`Controller.is_connected is ${last}, not ${want}`);
  };
  const ping = async (from: string, to: string): Promise<Ping> => {
    const path = `/v1/topologies/${ours.topology}/traffic`;
    const body = { kind: 'ping', from: `${from}/eth0`, to: `${to}/eth0`, count: 3, rate: '10/s' };
    const { id } = await ours.server.json<{ id: string }>('POST', path, body);
    return await ours.server.json<Ping>('GET', `${path}/${id}?wait=30s`);
  };
  const flows = async (): Promise<string[]> => {
    const { status, stdout } = await ofctl(ours, '-O', 'OpenFlow13', '--no-stats', 'dump-flows', 'BRIDGE');
    expect(status).toBe(0);
    return stdout
      .trim()
      .split('\n')
      .map((line) => line.trim());
  };

  peer.beforeAll(async () => {
    port = await freePort();
    folder = mkdtempSync(join(tmpdir(), 'controller-'));
    writeFileSync(join(folder, 'switch.py'), APP);
    ours = await startOurs(DOCUMENT);
    const protocols = 'protocols=OpenFlow10,OpenFlow13';
    const set = ['set-fail-mode', 'br0', 'secure', '--', 'set', 'Bridge', 'br0', protocols];
    expect(await vsctl(ours, ...set, '--', 'set-controller', 'br0', `tcp:127.0.0.1:${port}`)).toMatchObject({
      status: 0,
      stderr: '',
    });
  }, 60_000);
  afterAll(async () => {
    await stopController();
    await ours?.stop();
    if (folder !== '') rmSync(folder, { recursive: true });
  });

  peer(
    'pings, puts flows, and goes on after its restart',
    async () => {
      // without its controller a secure bridge forwards nothing
      expect(await ping('a', 'b')).toMatchObject({ received: 0 });
      startController();
      await connected(true);
      const first = await ping('a', 'b');
      expect(first).toMatchObject({ state: 'SUCCEEDED', sent: 3, received: 3 });
      const rules = await flows();
      expect(
        rules.some((rule) => /priority=0 actions=CONTROLLER:65535/.test(rule)),
        rules.join('\n'),
      ).toBe(true);
      expect(rules.filter((rule) => /priority=1,in_port=\S+,dl_dst=/.test(rule)).length).toBeGreaterThanOrEqual(2);

      await stopController();
      await connected(false);
      // what it has put there goes on working
      expect(await ping('a', 'b')).toMatchObject({ state: 'SUCCEEDED', received: 3 });
      startController();
      await connected(true);
      expect(await ping('b', 'c')).toMatchObject({ state: 'SUCCEEDED', received: 3 });
      expect((await flows()).length).toBeGreaterThan(rules.length);
    },
    120_000,
  );
});
