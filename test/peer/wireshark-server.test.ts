/** What the real server writes, in a real tshark with the script and the profile: each backend, both views, and live. */
import { spawn } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect } from 'vitest';
import { Ringside } from '../tools/ringside.ts';
import { ROOT, readText } from '../tools/source.ts';
import { requirePeer } from './peers.ts';
import { WiresharkHome } from './wireshark-home.ts';

const BACKENDS = ['virtio-net', 'vhost-net', 'vhost-user'] as const;
const home = new WiresharkHome();
const tsharkTest = requirePeer('tshark');
let server: Ringside;

beforeAll(async () => {
  server = await Ringside.start({ RINGSIDE_WORKERS: '1' });
  for (const name of BACKENDS) {
    const preset = await server.json<{ recorder?: object }>('GET', `/v1/presets/${name}`);
    const document = { ...preset, recorder: { ...preset.recorder, descriptors: true } };
    await server.json('PUT', `/v1/topologies/${name}`, document);
    await ping(name);
  }
}, 60_000);
afterAll(async () => {
  await server.stop();
  home.remove();
});

async function ping(topology: string): Promise<void> {
  const body = { kind: 'ping', from: 'a/net0', to: 'b/net0', count: 2 };
  const { id } = await server.json<{ id: string }>('POST', `/v1/topologies/${topology}/traffic`, body);
  await server.json('GET', `/v1/topologies/${topology}/traffic/${id}?wait=30s`);
}
async function download(topology: string, view: string): Promise<string> {
  const response = await fetch(`${server.url}/v1/topologies/${topology}/capture.pcapng?view=${view}`);
  expect(response.status).toBe(200);
  const path = join(home.folder, `${topology}-${view}.pcapng`);
  writeFileSync(path, Buffer.from(await response.arrayBuffer()));
  return path;
}
interface Recorded {
  readonly seq: number;
  readonly event: string;
  readonly place: string;
  readonly context: string;
  readonly ns: number;
  readonly frame: number | null;
}
/** The same events as the event stream has them. */
async function recorded(topology: string): Promise<Recorded[]> {
  const text = await (await fetch(`${server.url}/v1/topologies/${topology}/events`)).text();
  const lines = text.split('\n').filter((line) => line !== '');
  return lines
    .map((line) => JSON.parse(line) as Recorded)
    .filter((event) => event.seq !== undefined && event.event !== undefined);
}
/** Fields of every row by name, in one run of tshark; fails where the script or a dissector had trouble. */
function table(path: string, names: readonly string[]): Map<string, string>[] {
  const trouble = ['_ws.lua.error', '_ws.malformed', 'ringside.malformed'];
  const all = [...names, ...trouble];
  const rows = home.fields(['-r', path], all).map((row) => new Map(row.map((value, i) => [all[i] ?? '', value])));
  expect(rows.filter((row) => trouble.some((name) => row.get(name) !== ''))).toEqual([]);
  return rows;
}

for (const backend of BACKENDS) {
  tsharkTest(
    `${backend}: every row of the journey view has its fields; exits and copies are the backend's`,
    async () => {
      const names = ['hop', 'frame', 'ns', 'exit', 'copies'].map((name) => `ringside.${name}`);
      const rows = table(await download(backend, 'journey'), [
        'frame.interface_name',
        'frame.packet_id',
        'frame.time_relative',
        ...names,
      ]);
      expect(rows.length).toBeGreaterThan(30);
      const start = Number(rows[0]?.get('ringside.ns'));
      let copies = 0;
      for (const row of rows) {
        expect(row.get('ringside.hop')).toBe(row.get('frame.interface_name'));
        expect(row.get('ringside.frame')).toBe(BigInt(row.get('frame.packet_id') ?? '').toString());
        const time = Math.round(Number(row.get('frame.time_relative')) * 1e9);
        expect(time).toBe(Number(row.get('ringside.ns')) - start);
        if (row.get('ringside.frame') === '1') copies += Number(row.get('ringside.copies') ?? 0);
      }
      const exits = new Set(
        rows.flatMap((row) => row.get('ringside.exit')?.split(',') ?? []).filter((name) => name !== ''),
      );
      if (backend === 'vhost-user') expect([...exits]).toEqual([]);
      else expect([...exits]).toContain('ept_misconfig_kernel');
      expect(copies).toBe(backend === 'virtio-net' ? 3 : 2);
    },
    60_000,
  );

  tsharkTest(
    `${backend}: the rows of the event view are the events of the stream`,
    async () => {
      const common = ['seq', 'event', 'hop', 'ctx', 'ns', 'frame'].map((name) => `ringside.${name}`);
      const special = {
        'ringside.virtq.avail_idx': (e: Recorded) => /^virtq\.(avail(_idx)?|kick(_suppressed)?)$/.test(e.event),
        'ringside.exit.handled_by': (e: Recorded) => e.event.startsWith('kvm.exit_'),
        'ringside.irq.vector': (e: Recorded) =>
          /^(kvm\.irqfd|kvm\.signal_msi|guest\.irq|kvm\.exit_ext.*)$/.test(e.event),
        'ringside.eventfd.counter': (e: Recorded) => e.event.startsWith('eventfd.'),
        'ringside.vhost_user.request': (e: Recorded) => /^vhost\.(user_|backend_|socket_close)/.test(e.event),
        'ringside.vhost_user.size': (e: Recorded) => /^vhost\.(user|backend)_message$/.test(e.event),
        'ringside.desc.addr': (e: Recorded) => e.event === 'virtq.descriptors',
        'ringside.vhost.ioctl': (e: Recorded) => e.event === 'vhost.ioctl',
        'ringside.kvm.ioctl': (e: Recorded) => /^kvm\.ioctl(_result)?$/.test(e.event),
        'ringside.features.word': (e: Recorded) => e.event === 'virtio.features',
        'ringside.pci.capability.id': (e: Recorded) => e.event === 'pci.capability',
        'eth.type': (e: Recorded) => e.event === 'packet.bytes',
      };
      const path = await download(backend, 'events');
      const rows = table(path, [...common, ...Object.keys(special)]);
      rows.sort((x, y) => Number(x.get('ringside.seq')) - Number(y.get('ringside.seq')));
      const wanted = await recorded(backend);
      expect(wanted.length).toBeGreaterThan(300);
      expect(wanted.some((e) => e.event === 'virtq.descriptors')).toBe(true);
      expect(rows.map((row) => common.map((name) => row.get(name)))).toEqual(
        wanted.map((e) => [e.seq, e.event, e.place, e.context, e.ns, e.frame ?? ''].map(String)),
      );
      for (const [name, has] of Object.entries(special)) {
        const found = rows.filter((row) => row.get(name) !== '').map((row) => Number(row.get('ringside.seq')));
        expect(found, name).toEqual(wanted.filter(has).map((e) => e.seq));
      }
    },
    60_000,
  );
}

requirePeer('tshark', 'curl', 'unzip')(
  'the three commands of the README install profile and script where Wireshark finds them',
  async () => {
    const [block = ''] =
      readText('wireshark/README.md').split('Linux and macOS:')[1]?.split('```text')[1]?.split('```') ?? [];
    const commands = block
      .replaceAll('localhost:8080', new URL(server.url).host)
      .replaceAll('/tmp/', `${home.folder}/`);
    expect(commands.trim().split('\n').length).toBe(3);
    const folder = join(home.folder, 'fresh');
    mkdirSync(folder);
    const env = home.env({ HOME: folder });
    expect(home.run('sh', ['-ec', commands], { env })).toEqual({ status: 0, out: '', err: '' });
    const path = await download('vhost-net', 'journey');
    const done = home.run('tshark', ['-C', 'Ringside', '-n', '-r', path, '-c', '2'], { env });
    expect([done.status, done.err]).toEqual([0, '']);
    expect(done.out.split('\n')[1]?.trim().replace(/\s+/g, ' ')).toMatch(
      /^2 0\.0+ a\/net0\/tx0 1 1 0 ept_misconfig_kernel 52:54/,
    );
  },
  60_000,
);

requirePeer('unzip', 'python3')('the zip is one for other programs too', () => {
  const zip = join(ROOT, 'wireshark/ringside-profile.zip');
  expect(home.run('unzip', ['-tq', zip]).status).toBe(0);
  const check = 'import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); print(z.testzip(), len(z.namelist()))';
  expect(home.run('python3', ['-c', check, zip]).out).toBe('None 7\n');
});

requirePeer('tshark', 'curl')(
  'a capture that follows shows what a display filter lets through, while it happens',
  async () => {
    const url = `${server.url}/v1/topologies/vhost-net/capture.pcapng?view=journey&follow=true&from=start`;
    const script = `curl -sN '${url}' | tshark -n -l -i - -C Ringside -Y 'ringside.exit && ringside.hop == "a/net0/tx0"' -T fields -e ringside.frame`;
    // A group of its own, so that both programs can be ended.
    const pipe = spawn('sh', ['-c', script], {
      env: home.env(),
      cwd: home.folder,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let said = '';
    pipe.stderr.on('data', (part: Buffer) => {
      said += part.toString();
    });
    try {
      const lines = createInterface({ input: pipe.stdout })[Symbol.asyncIterator]();
      expect((await lines.next()).value, said).toBe('1');
      // What was held is shown; then what comes, while the pipe stays open.
      await ping('vhost-net');
      const seen: number[] = [];
      while (seen.length < 3) seen.push(Number((await lines.next()).value));
      expect(seen).toEqual([...seen].sort((x, y) => x - y));
    } finally {
      process.kill(-pipe.pid!, 'SIGTERM');
    }
  },
  60_000,
);
