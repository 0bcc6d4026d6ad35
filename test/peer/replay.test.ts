/**
 * A real capture of Linux guest traffic, sent again through each back-end over HTTP, and the export as tshark and capinfos
 * read it: every frame at every hop that it passed, with its own bytes, at times that fit.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { EVENT_KINDS } from '../../src/engine/events.ts';
import { Ringside } from '../tools/ringside.ts';
import { ROOT } from '../tools/source.ts';
import { requirePeer } from './peers.ts';

const CAPTURE = join(ROOT, 'test/vectors/pcap/split_tap.pcap');
const BACKENDS = ['virtio-net', 'vhost-net', 'vhost-user'] as const;
/** Kinds of events that are rows of a journey: sightings at hops, and drops. */
const ROWS = new Set(EVENT_KINDS.filter((k) => k.hop !== null || k.role === 'dropped').map((k) => k.name));

const folder = mkdtempSync(join(tmpdir(), 'ringside-replay-'));
let server: Promise<Ringside> | null = null;
const started = (): Promise<Ringside> => (server ??= Ringside.start());
afterAll(async () => {
  await (await server)?.stop();
  rmSync(folder, { recursive: true, force: true });
});

function tool(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'pipe'] });
}

interface Row {
  readonly frame: number;
  readonly hop: string;
  /** ns since 1970, or since the first frame of a file without a date of its own. */
  readonly time: bigint;
  readonly bytes: number;
  /** MD5 of the frame's bytes, by tshark. */
  readonly md5: string;
}
/** What tshark finds in a file; frames without a packet id are numbered as they come. */
function read(path: string): Row[] {
  const fields = ['packet_id', 'interface_name', 'time_epoch', 'len', 'md5_hash'].flatMap((f) => ['-e', `frame.${f}`]);
  const text = tool('tshark', '-n', '-r', path, '-o', 'frame.generate_md5_hash:TRUE', '-T', 'fields', ...fields);
  return text
    .trimEnd()
    .split('\n')
    .map((line, i) => {
      const [id = '', hop = '', epoch = '', bytes = '', md5 = ''] = line.split('\t');
      const [seconds = '', fraction = ''] = epoch.split('.');
      const time = BigInt(seconds) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
      return { frame: id === '' ? i + 1 : Number(id), hop, time, bytes: Number(bytes), md5 };
    });
}
const key = (row: { frame: number; hop: string }): string => `${row.frame} ${row.hop}`;

interface Run {
  readonly state: string;
  readonly sent: number;
  readonly received: number;
  readonly dropped: Record<string, number>;
}
/** Boots a preset (a new world each time) and replays a file in it. */
async function replay(topology: string, body: Buffer, type: string, speed: string, preset = topology): Promise<Run> {
  const http = await started();
  await fetch(`${http.url}/v1/topologies/${topology}`, { method: 'DELETE' });
  const document: { hosts: { bridges: object[]; guests: { nics: object[] }[] }[] } = await http.json(
    'GET',
    `/v1/presets/${preset}`,
  );
  // the capture's stations are none of the guests: without CTRL_RX QEMU's device stays promiscuous, as it begins
  const features = { VIRTIO_NET_F_CTRL_RX: false, VIRTIO_NET_F_CTRL_RX_EXTRA: false };
  for (const guest of document.hosts.flatMap((host) => host.guests))
    for (const nic of guest.nics) Object.assign(nic, { features });
  // a cable between the two guests: a flood would give LOCAL a copy of each frame, with a number of its own
  const flows = ['in_port=1,actions=output:2', 'in_port=2,actions=output:1'];
  for (const host of document.hosts)
    for (const bridge of host.bridges) Object.assign(bridge, { failMode: 'secure', flows });
  await http.json('PUT', `/v1/topologies/${topology}`, document);
  const response = await fetch(`${http.url}/v1/topologies/${topology}/replays?at=a/net0&speed=${speed}`, {
    method: 'POST',
    headers: { 'content-type': type },
    body: new Uint8Array(body),
  });
  expect(response.status, await response.clone().text()).toBe(202);
  return await http.json('GET', `${response.headers.get('location')}?wait=60s`);
}
async function download(topology: string, query: string): Promise<string> {
  const { url } = await started();
  const path = join(folder, `${topology}-${query.replaceAll(/\W/g, '-')}.pcapng`);
  const response = await fetch(`${url}/v1/topologies/${topology}/capture.pcapng?${query}`);
  expect(response.status).toBe(200);
  writeFileSync(path, Buffer.from(await response.arrayBuffer()));
  return path;
}
interface Event {
  readonly seq: number;
  readonly ns: number;
  readonly event: string;
  readonly place: string;
  readonly frame: number | null;
  readonly parentFrame?: number;
}
async function events(topology: string): Promise<Event[]> {
  const { url } = await started();
  const text = await (await fetch(`${url}/v1/topologies/${topology}/events`)).text();
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Event);
}

for (const backend of BACKENDS) {
  for (const speed of ['original', 'max'] as const) {
    requirePeer('tshark', 'capinfos')(`replay through ${backend}, speed=${speed}`, async () => {
      const http = await started();
      const original = read(CAPTURE);
      expect(original.length).toBe(324);
      const run = await replay(backend, readFileSync(CAPTURE), 'application/vnd.tcpdump.pcap', speed);
      expect(run.state).toBe('SUCCEEDED');
      expect(run.sent).toBe(original.length);
      const lost = Object.values(run.dropped).reduce((sum, n) => sum + n, 0);
      expect(run.received + lost).toBe(run.sent);
      expect(run.received).toBeGreaterThan(300);

      // Every event that is a sighting is a row, once, at its own time; and there is no other row.
      const journey = await download(backend, 'view=journey');
      const rows = read(journey);
      const epoch = BigInt(Date.parse('2026-01-01T00:00:00Z')) * 1_000_000n;
      const seen = (await events(backend)).filter((e) => e.frame !== null && ROWS.has(e.event));
      const recorded = seen.map((e) => `${e.frame} ${e.place} ${epoch + BigInt(e.ns)}`).sort();
      expect(rows.map((row) => `${key(row)} ${row.time}`).sort()).toEqual(recorded);

      // The bytes of frame n are those of the n-th frame of the original, wherever it is seen.
      expect(new Set(rows.map((row) => row.frame)).size).toBe(original.length);
      const asSent = rows.map((row) => ({
        ...row,
        md5: original[row.frame - 1]?.md5,
        bytes: original[row.frame - 1]?.bytes,
      }));
      expect(rows).toEqual(asSent);

      // One interface for each hop: the rows of a frame are its journey's, in its journey's order.
      const ways = Map.groupBy(rows, (row) => row.frame);
      for (const [frame, way] of ways) {
        const back = way.findIndex((row, i) => i > 0 && row.time < way[i - 1]!.time);
        if (back > 0) expect.fail(`frame ${frame}: time goes back at ${way[back]?.hop}`);
      }
      for (const frame of [1, 2, 5, 19, 100, 200, 324]) {
        const { hops } = await http.json<{ hops: { place: string; event: string }[] }>(
          'GET',
          `/v1/topologies/${backend}/frames/${frame}`,
        );
        const passed = hops.filter((hop) => ROWS.has(hop.event)).map((hop) => hop.place);
        expect(ways.get(frame)?.map((row) => row.hop)).toEqual(passed);
      }

      const wire = read(await download(backend, 'view=wire'));
      expect(wire.map((row) => row.frame).sort((x, y) => x - y)).toEqual(original.map((_, i) => i + 1));
      expect(new Set(wire.map((row) => row.hop))).toEqual(new Set(['br0/a.net0']));
      expect(wire.map((row) => row.md5)).toEqual(original.map((row) => row.md5));

      const info = tool('capinfos', journey);
      expect(info).toMatch(/Strict time order: +True/);
      expect(info).toMatch(new RegExp(`Number of packets: +${rows.length}\\n`));
      const counts = [...info.matchAll(/Name = (\S+)[\s\S]*?Number of packets = (\d+)/g)].map((m) => [m[1], m[2]]);
      const perHop = Map.groupBy(rows, (row) => row.hop);
      for (const [hop, count] of counts) expect(perHop.get(hop ?? '')?.length ?? 0, hop).toBe(Number(count));
      expect(counts.map(([hop]) => hop)).toEqual(expect.arrayContaining([...perHop.keys()]));
      expect(new Set(counts.map(([hop]) => hop)).size).toBe(counts.length);

      const sent = rows.filter((row) => row.hop === 'a/net0').sort((x, y) => x.frame - y.frame);
      const elapsed = (list: readonly Row[], i: number): number => Number(list[i]!.time - list[0]!.time);
      if (speed === 'original') {
        // To the microsecond of the file, and what the sending guest still had to do before it came to a frame.
        for (let i = 0; i < sent.length; i++) {
          const late = elapsed(sent, i) - elapsed(original, i);
          if (late < -1_000 || late > 20_000) expect.fail(`frame ${i + 1} was sent ${late} ns late`);
        }
      } else {
        expect(elapsed(sent, sent.length - 1)).toBeLessThan(elapsed(original, original.length - 1) / 100);
      }
    });
  }
}

requirePeer('tshark', 'editcap')('the same frames as pcap, nanosecond pcap and pcapng are the same run', async () => {
  const http = await started();
  const fingerprints = [];
  for (const [format, type] of [
    ['pcap', 'application/vnd.tcpdump.pcap'],
    ['nsecpcap', 'application/vnd.tcpdump.pcap'],
    ['pcapng', 'application/x-pcapng'],
  ] as const) {
    const file = join(folder, `again.${format}`);
    tool('editcap', '-F', format, CAPTURE, file);
    expect((await replay('again', readFileSync(file), type, 'original', 'vhost-net')).state).toBe('SUCCEEDED');
    fingerprints.push((await http.json<{ fingerprint: string }>('GET', '/v1/topologies/again')).fingerprint);
  }
  expect(new Set(fingerprints).size, fingerprints.join()).toBe(1);
});

requirePeer('tshark')('an export can be replayed in its turn, with its times', async () => {
  await replay('again', readFileSync(CAPTURE), 'application/vnd.tcpdump.pcap', 'original', 'vhost-net');
  const first = await download('again', 'view=wire');
  const before = read(first);
  const run = await replay('again', readFileSync(first), 'application/x-pcapng', 'original', 'virtio-net');
  expect(run.sent).toBe(before.length);
  const after = read(await download('again', 'view=wire&points=a/net0'));
  expect(after.map((row) => row.md5)).toEqual(before.map((row) => row.md5));
  after.forEach((row, i) => {
    const late = Number(row.time - after[0]!.time - (before[i]!.time - before[0]!.time));
    expect(Math.abs(late), `frame ${i + 1}`).toBeLessThan(20_000);
  });
});

for (const [backend, datapath, driver] of [
  ['vhost-net', 'system', 'virtio-net'],
  ['vhost-user', 'netdev', 'virtio-pmd'],
] as const) {
  requirePeer('tshark')(`what ${backend} guests get of a flooded frame has an id and a way of its own`, async () => {
    const http = await started();
    const guest = (name: string, address: string) => ({
      name,
      nics: [{ name: 'net0', bridge: 'br0', backend, driver, addresses: [address] }],
    });
    const guests = [guest('a', '10.0.0.1/24'), guest('b', '10.0.0.2/24'), guest('c', '10.0.0.3/24')];
    const document = { hosts: [{ name: 'h1', bridges: [{ name: 'br0', datapath }], guests }] };
    await http.json('PUT', '/v1/topologies/flood', document);
    const response = await fetch(`${http.url}/v1/topologies/flood/replays?at=a/net0`, {
      method: 'POST',
      headers: { 'content-type': 'application/vnd.tcpdump.pcap' },
      body: new Uint8Array(readFileSync(CAPTURE)),
    });
    const run = await http.json<Run & { replicated: number }>('GET', `${response.headers.get('location')}?wait=60s`);
    expect(run.state).toBe('SUCCEEDED');
    const original = read(CAPTURE);
    const recorded = await events('flood');
    const parents = new Map(
      recorded.filter((e) => e.event === 'packet.clone').map((e) => [e.frame ?? 0, e.parentFrame ?? 0]),
    );
    expect(parents.size).toBe(run.replicated);
    expect(parents.size).toBeGreaterThan(300);
    const rows = read(await download('flood', 'view=journey'));
    const sightings = recorded.filter((e) => e.frame !== null && ROWS.has(e.event));
    expect(rows.map((row) => `${key(row)} ${row.time % 1_000_000_000n}`).sort()).toEqual(
      sightings.map((e) => `${e.frame} ${e.place} ${e.ns % 1_000_000_000}`).sort(),
    );
    const sources = [...original.map((row) => row.md5)].sort();
    const first = new Map<number, Row>();
    for (const row of rows) if (!first.has(row.frame)) first.set(row.frame, row);
    const ownFrames = [...first.values()].filter((row) => !parents.has(row.frame));
    expect(ownFrames.map((row) => row.md5).sort()).toEqual(sources);
    for (const row of rows) {
      const parent = first.get(parents.get(row.frame) ?? row.frame);
      if (row.md5 !== parent?.md5) expect.fail(`${key(row)} has other bytes than frame ${parent?.frame}`);
    }
  });
}

requirePeer('tshark')('snaplen cuts the bytes, not the lengths; points chooses the hops', async () => {
  const run = await replay('again', readFileSync(CAPTURE), 'application/vnd.tcpdump.pcap', 'max', 'vhost-user');
  const path = await download('again', 'view=journey&snaplen=64&points=*/tx0,b/net0');
  const text = tool(
    'tshark',
    '-n',
    '-r',
    path,
    '-T',
    'fields',
    '-e',
    'frame.interface_name',
    '-e',
    'frame.len',
    '-e',
    'frame.cap_len',
  );
  const rows = text
    .trimEnd()
    .split('\n')
    .map((line) => line.split('\t'));
  expect(new Set(rows.map(([hop]) => hop))).toEqual(new Set(['a/net0/tx0', 'b/net0']));
  expect(rows.filter(([hop]) => hop === 'a/net0/tx0').length).toBe(run.sent);
  for (const [hop, length, captured] of rows) expect(Number(captured), hop).toBe(Math.min(64, Number(length)));
  expect(rows.some(([, length]) => Number(length) > 1400)).toBe(true);
});
