/** The Lua script and the profile in a real tshark, on captures made by hand: every field, and rows that are broken. */
import { spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, expect } from 'vitest';
import { TUN_IOCTL_NAMES } from '../../src/machine/host/tun-ioctls.ts';
import { VHOST_IOCTL_NAMES } from '../../src/machine/vhost/kernel/vhost-net.ts';
import { FEATURE_BITS } from '../../src/machine/virtio/features.ts';
import { KVM_IOCTL_NAMES } from '../../src/machine/wire/kvm.ts';
import { VHOST_USER_MESSAGES } from '../../src/machine/wire/vhost-user-messages.ts';
import { ROOT, readText } from '../tools/source.ts';
import { requirePeer } from './peers.ts';
import { WiresharkHome } from './wireshark-home.ts';
import {
  bytes,
  descriptor,
  type EventRow,
  eventBytes,
  message,
  pcapng,
  pcapngHead,
  pcapngRow,
  quads,
  type Row,
  words,
} from './wireshark-rows.ts';

const ETHERNET = 1;
const USER0 = 147;
const tsharkTest = requirePeer('tshark');
const home = new WiresharkHome();
afterAll(() => home.remove());

const ROWS = process.env['RINGSIDE_FULL'] === '1' ? 30_000 : 3000;

let files = 0;
function save(linkType: number, rows: readonly Row[]): string {
  const path = join(home.folder, `${files++}.pcapng`);
  writeFileSync(path, pcapng(linkType, rows));
  return path;
}
/** An ARP request of 60 bytes. */
const ARP = Uint8Array.from(
  Buffer.from(
    'ffffffffffff525400000001080600010800060400015254000000010a0000010000000000000a000002'.padEnd(120, '0'),
    'hex',
  ),
);
const row = (comment: string, more: Partial<Row> = {}): Row => ({ data: ARP, comments: [comment], ...more });
/** A row of view=events with the comment that goes with it. */
const eventOf = (event: EventRow): Row => ({
  data: eventBytes(event),
  comments: [
    `it happened | hop=${event.place ?? 'a/net0'} event=${event.event} ctx=a/vcpu0 ns=1000 cost=4 seq=${event.seq ?? 1}`,
  ],
  ...(event.frame === undefined ? {} : { packetId: event.frame }),
});
const events = (...list: readonly EventRow[]): string => save(USER0, list.map(eventOf));
/** All of the script's fields and the two columns, by name, for each row; one run of tshark. */
function table(path: string): Map<string, string>[] {
  const all = [...fieldNames(), '_ws.col.Protocol', '_ws.col.Info'];
  return home.fields(['-r', path], all).map((line) => new Map(line.map((value, i) => [all[i] ?? '', value])));
}
let known: Set<string> | undefined;
/** The fields that tshark has of the script. */
function fieldNames(): Set<string> {
  known ??= new Set(home.tshark(['-G', 'fields']).out.match(/\bringside\.[a-z0-9_.]+/g));
  return known;
}
const column = (path: string, name: string): string[] => home.fields(['-r', path], [name]).map((line) => line[0] ?? '');

const JOURNEY: readonly Row[] = [
  row(
    'the driver put the frame into the available ring | hop=a/net0/tx0 event=virtq.avail ctx=a/vcpu0 ns=18446744073 cost=1500 kick=1 exit=ept_misconfig_kernel,hlt exits=2',
    { packetId: 7, queue: 1 },
  ),
  row(
    'a frame enters | hop=tap-a event=tap.xmit ctx=vhost-1 ns=18446745000 cost=900 wait=20 copy=60 copies=1 irq=2 cache=emc_hit parent=3',
    { packetId: 8 },
  ),
  {
    data: ARP,
    packetId: 7,
    comments: [
      'seen by somebody | else=1',
      'dropped: the tap queue is full | hop=tap-b event=tap.queue_full ctx=vhost-1 ns=5 cost=99 drop=tap.queue_full',
    ],
  },
  row('nothing of ours'),
];

tsharkTest('each key of a comment is a field with a type of its own', () => {
  const names = [
    'hop',
    'event',
    'ctx',
    'ns',
    'cost',
    'wait',
    'copy',
    'copies',
    'exit',
    'exits',
    'kick',
    'irq',
    'cache',
    'drop',
    'parent',
    'frame',
    'queue',
  ];
  const rows = home.fields(
    ['-r', save(ETHERNET, JOURNEY)],
    names.map((name) => `ringside.${name}`),
  );
  expect(rows).toEqual([
    [
      'a/net0/tx0',
      'virtq.avail',
      'a/vcpu0',
      '18446744073',
      '1500',
      '',
      '',
      '',
      'ept_misconfig_kernel,hlt',
      '2',
      '1',
      '',
      '',
      '',
      '',
      '7',
      '1',
    ],
    [
      'tap-a',
      'tap.xmit',
      'vhost-1',
      '18446745000',
      '900',
      '20',
      '60',
      '1',
      '',
      '',
      '',
      '2',
      'emc_hit',
      '',
      '3',
      '8',
      '',
    ],
    ['tap-b', 'tap.queue_full', 'vhost-1', '5', '99', '', '', '', '', '', '', '', '', 'tap.queue_full', '', '7', ''],
    Array.from(names, () => ''),
  ]);
});

tsharkTest('display filters compare numbers as numbers and several exits one by one', () => {
  const path = save(ETHERNET, JOURNEY);
  const numbers = (filter: string): string[] =>
    home.fields(['-r', path, '-Y', filter], ['frame.number']).map((line) => line[0] ?? '');
  expect(numbers('ringside.drop')).toEqual(['3']);
  expect(numbers('ringside.cost > 1000')).toEqual(['1']);
  expect(numbers('ringside.cost >= 99 && ringside.cost < 1000')).toEqual(['2', '3']);
  expect(numbers('ringside.exit == "hlt"')).toEqual(['1']);
  expect(numbers('ringside.frame == 7')).toEqual(['1', '3']);
  expect(numbers('ringside.hop matches "^tap"')).toEqual(['2', '3']);
  expect(numbers('!ringside')).toEqual(['4']);
});

tsharkTest('comments that are not as they should be give what can be read of them', () => {
  const path = save(ETHERNET, [
    row('x | hop=y ns=abc cost=99999999999999999999999 exit=,, kick= =5 a== wait=12'),
    row(' | hop='),
    row('| hop=z'),
    row('a | b | hop=c'),
    { data: ARP, comments: ['one | hop=p cost=1', 'two | hop=q cost=2'] },
    { data: Uint8Array.of(1, 2, 3), comments: ['short | hop=s'], original: 60 },
  ]);
  const out = home.fields(
    ['-r', path],
    ['ringside.hop', 'ringside.ns', 'ringside.cost', 'ringside.wait', '_ws.lua.text'],
  );
  expect(out).toEqual([
    ['y', '', '', '12', ''],
    ['', '', '', '', ''],
    ['', '', '', '', ''],
    ['c', '', '', '', ''],
    ['p,q', '', '1,2', '', ''],
    ['s', '', '', '', ''],
  ]);
});

tsharkTest('the profile loads without a word, and its columns show what the rows say', () => {
  const { out, err, status } = home.tshark(['-C', 'Ringside', '-n', '-r', save(ETHERNET, JOURNEY)]);
  expect(err).toBe('');
  expect(status).toBe(0);
  const lines = out
    .split('\n')
    .slice(0, -1)
    .map((line) => line.trim().replace(/\s+/g, ' '));
  expect(lines[0]).toBe(
    '1 0.000000000 a/net0/tx0 7 1 1500 ept_misconfig_kernel,hlt 52:54:00:00:00:01 → ff:ff:ff:ff:ff:ff ARP 60 Who has 10.0.0.2? Tell 10.0.0.1',
  );
  expect(lines[1]).toMatch(/^2 0\.0+ tap-a 8 900 60 /);
  expect(lines[2]).toMatch(/^3 0\.0+ tap-b 7 99 tap\.queue_full /);
  const preferences = home.tshark(['-G', 'currentprefs']);
  expect(preferences.status).toBe(0);
});

tsharkTest('every filter of the profile is one that Wireshark accepts', () => {
  const text = (name: string): string[] =>
    readText(`wireshark/profile/Ringside/${name}`)
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'));
  const filters = [
    ...text('colorfilters').map((line) => line.split('@')[2] ?? ''),
    ...text('dfilters').map((line) => line.replace(/^"[^"]*" /, '')),
    ...text('dfilter_buttons').map((line) =>
      (/^"TRUE","[^"]*","([^"]*)"/.exec(line)?.[1] ?? '').replaceAll('\\x22', '"'),
    ),
  ];
  expect(filters.length).toBeGreaterThan(25);
  // One tshark for all: each filter in parentheses, so that one that is wrong makes the whole wrong.
  const path = save(ETHERNET, JOURNEY);
  const { status, err } = home.tshark(['-r', path, '-Y', filters.map((filter) => `(${filter})`).join(' || ')]);
  expect([status, err]).toEqual([0, '']);
  // And the profile colours by them.
  const env = home.env({ COLORTERM: 'truecolor' });
  const args = ['-C', 'Ringside', '--color', '-r', path, '-T', 'fields', '-e', 'frame.coloring_rule.name'];
  const coloured = home.run('tshark', args, { env });
  expect(coloured).toMatchObject({ err: '', out: 'VM exit\nKick or interrupt\nDropped\n\n' });
});

tsharkTest('without the script Wireshark says what is missing', () => {
  const bare = new WiresharkHome({ script: false });
  try {
    const { err } = bare.tshark(['-C', 'Ringside', '-r', save(ETHERNET, JOURNEY)]);
    expect(err).toMatch(/User DLTs Table.*dissector not found/);
  } finally {
    bare.remove();
  }
});

tsharkTest(
  'filters work on a live pipe, row by row',
  async () => {
    const tshark = spawn(
      'tshark',
      ['-i', '-', '-n', '-l', '-Y', 'ringside.cost > 1000 || ringside.drop', '-T', 'fields', '-e', 'ringside.hop'],
      { env: home.env(), cwd: home.folder, stdio: ['pipe', 'pipe', 'pipe'] },
    );
    let said = '';
    tshark.stderr.on('data', (part: Buffer) => {
      said += part.toString();
    });
    const lines = createInterface({ input: tshark.stdout })[Symbol.asyncIterator]();
    const [first, second, third] = JOURNEY.map(pcapngRow);
    tshark.stdin.write(bytes(pcapngHead(ETHERNET), first!));
    expect((await lines.next()).value, said).toBe('a/net0/tx0');
    // The pipe stays open: what follows is read as it comes.
    tshark.stdin.write(second!);
    tshark.stdin.write(third!);
    expect((await lines.next()).value).toBe('tap-b');
    tshark.stdin.end();
    const code = await new Promise((resolve) => tshark.once('close', resolve));
    expect(code, said).toBe(0);
  },
  60_000,
);

tsharkTest('an event row: header, columns, protocol, the frame it belongs to', () => {
  const path = events(
    {
      event: 'virtq.kick',
      place: 'a/net0/tx0',
      a: 1,
      b: 17,
      nameA: 'queue',
      nameB: 'availIdx',
      seq: 5,
      timeNs: 2 ** 40,
      frame: 9,
      kind: 22,
    },
    { event: 'kvm.exit_io_user', place: 'a/vcpu0', a: 0xcfc, b: 4, nameA: 'address', nameB: 'value' },
    { event: 'kvm.irqfd', place: 'a/vcpu0', a: 3, nameA: 'vector' },
    { event: 'eventfd.signal', a: 2, nameA: 'counter' },
    { event: 'some.thing_new', a: 2n ** 52n, b: 7, nameA: 'one', nameB: 'two' },
  );
  const names = [
    'ringside.event',
    'ringside.hop',
    'ringside.ctx',
    'ringside.seq',
    'ringside.ns',
    'ringside.frame',
    'ringside.exit',
    'ringside.exit.reason',
    'ringside.exit.handled_by',
    '_ws.col.Protocol',
    '_ws.col.Info',
  ];
  // Nothing twice, although the comment says it again; the cost is in the comment only.
  expect(home.fields(['-r', path], [...names, 'ringside.cost'])).toEqual([
    [
      'virtq.kick',
      'a/net0/tx0',
      'a/vcpu0',
      '5',
      '1099511627776',
      '9',
      '',
      '',
      '',
      'VIRTQ',
      'virtq.kick a/net0/tx0 queue=1 availIdx=17 frame 9',
      '4',
    ],
    [
      'kvm.exit_io_user',
      'a/vcpu0',
      'a/vcpu0',
      '1',
      '1000',
      '',
      'io_user',
      'IO_INSTRUCTION',
      'userspace',
      'KVM',
      'kvm.exit_io_user a/vcpu0 address=0x00000cfc value=4',
      '4',
    ],
    ['kvm.irqfd', 'a/vcpu0', 'a/vcpu0', '1', '1000', '', '', '', '', 'KVM', 'kvm.irqfd a/vcpu0 vector=3', '4'],
    [
      'eventfd.signal',
      'a/net0',
      'a/vcpu0',
      '1',
      '1000',
      '',
      '',
      '',
      '',
      'EVENTFD',
      'eventfd.signal a/net0 counter=2',
      '4',
    ],
    [
      'some.thing_new',
      'a/net0',
      'a/vcpu0',
      '1',
      '1000',
      '',
      '',
      '',
      '',
      'RINGSIDE',
      'some.thing_new a/net0 one=4503599627370496 two=7',
      '4',
    ],
  ]);
  const values = [
    'ringside.virtq.queue',
    'ringside.virtq.avail_idx',
    'ringside.exit.address',
    'ringside.irq.vector',
    'ringside.eventfd.counter',
    'ringside.a',
    'ringside.b',
  ];
  expect(home.fields(['-r', path], values)).toEqual([
    ['1', '17', '', '', '', '', ''],
    ['', '', '0x00000cfc', '', '', '', ''],
    ['', '', '', '3', '', '', ''],
    ['', '', '', '', '2', '', ''],
    ['', '', '', '', '', '4503599627370496', '7'],
  ]);
});

tsharkTest('descriptors: every field of struct virtq_desc, every flag', () => {
  const chain = bytes(
    descriptor(3, 0x12_3456_7890n, 12, 1, 4),
    descriptor(4, 0x5000n, 1500, 2, 0),
    descriptor(9, 1n, 64, 7, 65535),
  );
  const path = events({ event: 'virtq.avail', dataType: 2, data: chain });
  const names = ['index', 'addr', 'len', 'flags', 'flags.next', 'flags.write', 'flags.indirect', 'next'];
  expect(
    home.fields(
      ['-r', path],
      names.map((name) => `ringside.desc.${name}`),
    ),
  ).toEqual([
    [
      '3,4,9',
      '0x0000001234567890,0x0000000000005000,0x0000000000000001',
      '12,1500,64',
      '0x0001,0x0002,0x0007',
      '1,0,1',
      '0,1,1',
      '0,0,1',
      '4,0,65535',
    ],
  ]);
});

tsharkTest('vhost-user: header flags, and the payload of each request as its structure', () => {
  const ask = (request: number, payload: Uint8Array, flags = 1): EventRow => ({
    event: 'vhost.user_request',
    dataType: 3,
    data: message(request, flags, payload),
  });
  const path = events(
    ask(5, bytes(words(2, 0), quads(0n, 0x1000n, 0x7f00n, 0n, 0x10000n, 0x2000n, 0x7f01n, 8n)), 9),
    ask(9, bytes(words(1, 1), quads(0x1n, 0x2n, 0x3n, 0x4n))),
    ask(8, words(1, 256)),
    ask(13, quads(0x101n)),
    ask(16, quads(0x8n | (1n << 40n))),
    ask(1, quads(1n << 32n), 5),
    ask(2, quads(1n), 5),
    ask(22, bytes(quads(1n, 2n, 3n), Uint8Array.of(3, 2, 0, 0, 0, 0, 0, 0))),
    ask(39, quads(0x0fn)),
  );
  const rows = table(path);
  const get = (...names: string[]): string[][] =>
    rows.map((row) => names.map((name) => row.get(`ringside.${name}`) ?? ''));
  expect(
    get('vhost_user.flags.version', 'vhost_user.flags.reply', 'vhost_user.flags.need_reply', 'vhost_user.size')[0],
  ).toEqual(['1', '0', '1', '72']);
  expect(
    get(
      'vhost_user.nregions',
      'vhost_user.region.guest_phys_addr',
      'vhost_user.region.memory_size',
      'vhost_user.region.userspace_addr',
      'vhost_user.region.mmap_offset',
    )[0],
  ).toEqual([
    '2',
    '0x0000000000000000,0x0000000000010000',
    '0x0000000000001000,0x0000000000002000',
    '0x0000000000007f00,0x0000000000007f01',
    '0x0000000000000000,0x0000000000000008',
  ]);
  const vring = ['index', 'flags', 'desc_user_addr', 'used_user_addr', 'avail_user_addr', 'log_guest_addr'];
  expect(get(...vring.map((name) => `vhost_user.vring.${name}`))[1]).toEqual([
    '1',
    '0x00000001',
    ...[1, 2, 3, 4].map((n) => `0x000000000000000${n}`),
  ]);
  expect(get('vhost_user.vring.index', 'vhost_user.vring.num')[2]).toEqual(['1', '256']);
  expect(get('vhost_user.vring', 'vhost_user.vring.nofd')[3]).toEqual(['1', '1']);
  expect(get('vhost_user.protocol_feature')[4]).toEqual(['REPLY_ACK,bit 40']);
  expect(get('vhost_user.flags.reply', 'feature', 'vhost_user.ack')[5]).toEqual(['1', 'VIRTIO_F_VERSION_1', '']);
  expect(get('feature', 'vhost_user.ack')[6]).toEqual(['', '1']);
  expect(get('iotlb.iova', 'iotlb.size', 'iotlb.uaddr', 'iotlb.perm', 'iotlb.type')[7]).toEqual([
    '0x0000000000000001',
    '0x0000000000000002',
    '0x0000000000000003',
    '3',
    '2',
  ]);
  expect(get('virtio.status', 'virtio.status.driver_ok')[8]).toEqual(['0x0f', '1']);
  expect(rows[7]?.get('_ws.col.Info')).toContain('VHOST_IOTLB_UPDATE');
  expect(new Set(rows.map((row) => row.get('_ws.col.Protocol')))).toEqual(new Set(['VHOST-USER']));
});

tsharkTest('set-up: status bits, feature words, capabilities, ioctls by name, an IOTLB message of its own', () => {
  const path = events(
    { event: 'virtio.status', a: 15, b: 7 },
    { event: 'virtio.features', a: 0x8000_0001, b: 1 },
    { event: 'pci.capability', a: 0x50, b: 0x209 },
    { event: 'vhost.ioctl', a: 0x4028_af11, b: 1 },
    { event: 'kvm.ioctl', a: 0x4020_ae76, b: 24 },
    { event: 'tap.ioctl', a: 0x4004_54ca, b: 0 },
    { event: 'vhost.iotlb', dataType: 4, data: bytes(quads(16n, 32n, 48n), Uint8Array.of(1, 1, 0, 0, 0, 0, 0, 0)) },
  );
  expect(column(path, '_ws.col.Info').map((text) => text.replace(/^\S+ a\/net0 ?/, ''))).toEqual([
    'ACKNOWLEDGE DRIVER DRIVER_OK FEATURES_OK',
    'accepted word 1: 0x00000001',
    'VIRTIO_PCI_CAP_NOTIFY_CFG',
    'VHOST_SET_VRING_ADDR',
    'KVM_IRQFD',
    'TUNSETIFF',
    '(VHOST_IOTLB_MISS)',
  ]);
  expect(column(path, 'ringside.virtio.accepted_status')[0]).toBe('0x07');
  expect(
    home.fields(['-r', path], ['ringside.features.word', 'ringside.features.accepted', 'ringside.feature'])[1],
  ).toEqual(['1', '1', 'VIRTIO_F_VERSION_1']);
});

tsharkTest('the frame of an event is dissected as Ethernet, also where it was cut', () => {
  const cut: Row = {
    data: eventBytes({ event: 'guest.xmit', dataType: 1, data: ARP.subarray(0, 20), frame: 4 }),
    original: 300,
    packetId: 4,
  };
  const path = save(USER0, [
    eventOf({ event: 'guest.xmit', dataType: 1, data: ARP, frame: 4, a: 60, nameA: 'bytes' }),
    cut,
  ]);
  expect(
    home.fields(
      ['-r', path],
      ['frame.protocols', 'arp.dst.proto_ipv4', 'ringside.bytes', '_ws.col.Protocol', '_ws.col.Info'],
    ),
  ).toEqual([
    ['ringside_event:eth:ethertype:arp', '10.0.0.2', '60', 'GUEST', 'guest.xmit a/net0 bytes=60 frame 4'],
    ['ringside_event:eth:ethertype:arp', '', '0', 'GUEST', 'guest.xmit a/net0 frame 4'],
  ]);
});

tsharkTest('link type USER0 of somebody else is left alone, with the profile too', () => {
  const path = save(USER0, [{ data: Uint8Array.of(1, 2, 3, 4, 5) }, { data: Uint8Array.of(0x52) }]);
  for (const profile of ['Default', 'Ringside']) {
    const { out, err, status } = home.tshark([
      '-C',
      profile,
      '-r',
      path,
      '-T',
      'fields',
      '-e',
      'data.data',
      '-e',
      'ringside_event',
      '-e',
      '_ws.lua.text',
    ]);
    expect([status, err, out]).toEqual([0, '', '0102030405\t\t\n52\t\t\n']);
  }
});

tsharkTest('rows that are cut, overwritten or random raise no error in the script', () => {
  let state = 12345;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  const names = [
    'virtq.avail',
    'kvm.exit_hlt',
    'vhost.user_request',
    'virtio.status',
    'virtio.features',
    'pci.capability',
    'x.y',
    'packet.clone',
    'guest.xmit',
    '',
  ];
  const rows = Array.from({ length: ROWS }, (): Row => {
    const data = new Uint8Array(random(120)).map(() => random(256));
    if (data.length >= 12 && random(2) === 1)
      data.set(words(random(45), random(16), random(4) > 0 ? data.length - 12 : random(1e6)));
    const a = BigInt(random(2 ** 24)) * BigInt(random(2 ** 24));
    let raw = eventBytes({
      event: names[random(names.length)] ?? '',
      a,
      b: random(2 ** 24) * 256,
      dataType: random(8),
      frame: random(3),
      data,
      nameA: 'q',
      nameB: random(2) === 0 ? '' : 'z',
    });
    const how = random(4);
    if (how === 0) raw = raw.slice(0, random(raw.length + 1));
    if (how === 1) for (let i = 0; i < 4; i++) raw[4 + random(raw.length - 4)] = random(256);
    const comment =
      random(2) === 0 ? '| hop= cost=' : `s | hop=x ns=${random(1000)} exit=${String.fromCharCode(33 + random(90))} q=`;
    return { data: raw, original: raw.length + random(2) * random(100), comments: [comment] };
  });
  const path = save(USER0, rows);
  const { out, err, status } = home.tshark(['-r', path, '-V']);
  expect([status, err]).toEqual([0, '']);
  expect(out).toContain('Cannot be read on');
  expect(out.toLowerCase()).not.toContain('lua error');
  expect(home.fields(['-r', path, '-Y', '_ws.lua.error'], ['frame.number'])).toEqual([]);
});

tsharkTest('names of requests, ioctls and features are those of the emulated devices', () => {
  const values = home.tshark(['-G', 'values']).out;
  const shown = (field: string): Map<number, string> =>
    new Map(
      [...values.matchAll(new RegExp(`^V\\t${field.replaceAll('.', '\\.')}\\t(\\w+)\\t(.*)$`, 'gm'))].map((m) => [
        Number(m[1]) >>> 0,
        m[2] ?? '',
      ]),
    );
  const requests = shown('ringside.vhost_user.request');
  for (const { id, name } of VHOST_USER_MESSAGES) expect(requests.get(id)).toBe(name);
  expect(shown('ringside.vhost.ioctl')).toEqual(new Map(VHOST_IOCTL_NAMES));
  expect(shown('ringside.kvm.ioctl')).toEqual(new Map(KVM_IOCTL_NAMES));
  expect(shown('ringside.tap.ioctl')).toEqual(new Map(TUN_IOCTL_NAMES));
  const all =
    column(
      events({ event: 'vhost.user_request', dataType: 3, data: message(2, 1, quads(2n ** 64n - 1n)) }),
      'ringside.feature',
    )[0] ?? '';
  const names = all.split(',').filter((name) => !name.startsWith('bit '));
  expect(names).toEqual(
    Object.entries(FEATURE_BITS)
      .sort((x, y) => x[1] - y[1])
      .map(([name]) => name),
  );
});

requirePeer('luac5.4')('the script is also Lua 5.4, which newer Wireshark has', () => {
  const done = spawnSync('luac5.4', ['-p', join(ROOT, 'wireshark/ringside.lua')], { encoding: 'utf8' });
  expect([done.status, done.stderr]).toEqual([0, '']);
});
