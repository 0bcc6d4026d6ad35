/** Flow keys, flow tables and caches against naive ones; both datapaths against a learning switch on paper. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { RandomStream } from '../../src/engine/random.ts';
import { FlowKey, hashKey } from '../../src/machine/ovs/datapath/flow-key.ts';
import { type Megaflow, MegaflowTable } from '../../src/machine/ovs/datapath/megaflow-table.ts';
import { DP_WORDS } from '../../src/machine/ovs/flow/flow.ts';
import { frame, KINDS, Switch } from '../unit/machine/ovs/datapath/switch.ts';
import { Bare } from '../unit/machine/packet/bare-services.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 2000 : 100;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);

// ---- flow keys ------------------------------------------------------------------------------------------------------
interface NaiveKey {
  readonly in_port: number;
  readonly dst: string;
  readonly src: string;
  readonly eth_type: number;
  readonly vlan_tci: number;
  readonly ip?: {
    readonly src: string;
    readonly dst: string;
    readonly proto: number;
    readonly tos: number;
    readonly ttl: number;
    readonly frag: number;
    readonly flags?: number;
    readonly ports?: readonly [number, number];
  };
}
/** A frame as its headers read, field by field; null without an Ethernet header. */
function parse(b: Buffer, in_port: number): NaiveKey | null {
  if (b.length < 14) return null;
  let at = 12;
  let vlan_tci = 0;
  if (b.readUInt16BE(12) === 0x8100 && b.length >= 18) {
    vlan_tci = b.readUInt16BE(14) | 0x1000;
    at = 16;
  }
  const eth_type = b.readUInt16BE(at);
  const key = {
    in_port,
    dst: b.subarray(0, 6).toString('hex'),
    src: b.subarray(6, 12).toString('hex'),
    eth_type,
    vlan_tci,
  };
  const ip = b.subarray(at + 2);
  if (eth_type !== 0x0800 || ip.length < 20) return key;
  const header = (ip[0]! & 15) * 4;
  const total = ip.readUInt16BE(2);
  if (header < 20 || total < header || total > ip.length) return key;
  const offset = ip.readUInt16BE(6) & 0x3fff;
  const frag = offset === 0 ? 0 : offset === 0x2000 ? 1 : 3;
  const proto = ip[9]!;
  const l4 = ip.subarray(header, total);
  const addresses = { src: ip.subarray(12, 16).join('.'), dst: ip.subarray(16, 20).join('.') };
  const fields = { ...addresses, proto, tos: ip[1]!, ttl: ip[8]!, frag };
  const least = proto === 6 ? 20 : proto === 17 ? 8 : Number.POSITIVE_INFINITY;
  if (frag === 3 || l4.length < least) return { ...key, ip: fields };
  const flags = proto === 6 ? l4.readUInt16BE(12) & 0xfff : 0;
  return { ...key, ip: { ...fields, ports: [l4.readUInt16BE(0), l4.readUInt16BE(2)], flags } };
}
/** The words, read back into fields. */
function readKey(k: Int32Array, hasIp: boolean, hasPorts: boolean): NaiveKey {
  const b = Buffer.from(k.buffer, k.byteOffset, DP_WORDS * 4);
  const be16 = (at: number): number => b.readUInt16BE(at);
  const key = {
    in_port: k[0]!,
    dst: b.subarray(4, 10).toString('hex'),
    src: b.subarray(10, 16).toString('hex'),
    eth_type: be16(16),
    vlan_tci: be16(18),
  };
  if (!hasIp) return key;
  const fields = {
    src: b.subarray(20, 24).join('.'),
    dst: b.subarray(24, 28).join('.'),
    proto: b[32]!,
    tos: b[33]!,
    ttl: b[34]!,
    frag: b[35]!,
  };
  return { ...key, ip: hasPorts ? { ...fields, ports: [be16(28), be16(30)], flags: be16(36) } : fields };
}

const packet = fc
  .record({
    noise: fc.uint8Array({ minLength: 0, maxLength: 90 }),
    type: fc.constantFrom(0x0800, 0x0800, 0x8100, 0x88cc),
    inner: fc.constantFrom(0x0800, 0x88cc, 0x8100),
    proto: fc.constantFrom(47, 6, 17, 17, 50),
    ihl: fc.constantFrom(5, 5, 6, 15),
    short: fc.constantFrom(0, 0, 0, 3, 30),
    fragment: fc.constantFrom(0, 0, 0x4000, 0x2000, 0x1fff, 1),
  })
  .map(({ noise, type, inner, proto, ihl, short, fragment }) => {
    const b = Buffer.from(noise);
    if (b.length >= 14) b.writeUInt16BE(type, 12);
    const tagged = type === 0x8100 && b.length >= 18;
    if (tagged) b.writeUInt16BE(inner, 16);
    const ip = b.subarray(tagged ? 18 : 14);
    if (ip.length >= 20) {
      ip[0] = 0x40 | ihl;
      ip.writeUInt16BE(Math.max(0, ip.length - short), 2);
      ip.writeUInt16BE(fragment, 6);
      ip[9] = proto;
    }
    return b;
  });

test(`the flow key holds what the headers say (seed ${seed})`, () => {
  const bare = new Bare(4);
  const { arena } = bare.services;
  const key = new FlowKey(arena);
  fc.assert(
    fc.property(
      packet,
      fc.integer({ min: 1, max: 60_000 }),
      fc.integer({ min: 0, max: 255 }),
      (bytes, port, behind) => {
        // what lies behind the frame must not matter
        arena.u8.fill(behind, bare.scratch, bare.scratch + 256);
        arena.u8.set(bytes, bare.scratch);
        const wanted = parse(bytes, port);
        assert.equal(key.extract(bare.scratch, bytes.length, port), wanted !== null);
        if (wanted === null) return;
        assert.deepEqual(readKey(key.words, wanted.ip !== undefined, wanted.ip?.ports !== undefined), wanted);
        if (wanted.ip === undefined) assert.deepEqual([...key.words.subarray(5, 9)], [0, 0, 0, 0]);
        else if (wanted.ip.ports === undefined) assert.equal(key.words[7], 0);
      },
    ),
    { seed, numRuns: RUNS * 20 },
  );
});

// ---- the flow table -------------------------------------------------------------------------------------------------
const words = fc
  .array(fc.constantFrom(0, 1, 2, 3, -1, 0x10000), { minLength: DP_WORDS, maxLength: DP_WORDS })
  .map((w) => Int32Array.from(w));
const masks = fc.array(
  fc
    .array(fc.constantFrom(0, -1, -1, 0xff, 0x10000), { minLength: DP_WORDS, maxLength: DP_WORDS })
    .map((w) => Int32Array.from(w)),
  { minLength: 1, maxLength: 5 },
);
const tableStep = fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant('insert' as const), key: words, mask: fc.nat(4) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('remove' as const), which: fc.nat(1000) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('find' as const), key: words }) },
);

test(`the flow table finds what a linear scan finds (seed ${seed})`, () => {
  fc.assert(
    fc.property(masks, fc.array(tableStep, { maxLength: 400 }), (maskList, steps) => {
      const table = new MegaflowTable(false);
      const list: Megaflow[] = [];
      const matches = (f: Megaflow, key: Int32Array): boolean => f.mask.every((m, i) => (key[i]! & m) === f.key[i]);
      let id = 0;
      for (const s of steps) {
        if (s.do === 'insert') {
          const mask = maskList[s.mask % maskList.length]!;
          // a datapath installs a flow only where none matches the key under this mask
          if (list.some((f) => matches(f, s.key) && f.mask.every((m, i) => m === mask[i]))) continue;
          list.push(table.insert(++id, s.key, mask, [{ type: 'output', port: id }]));
        } else if (s.do === 'remove') {
          if (list.length === 0) continue;
          const [gone] = list.splice(s.which % list.length, 1);
          table.remove(gone!);
          assert.equal(gone!.alive, false);
        } else {
          const found = table.find(s.key);
          const all = list.filter((f) => matches(f, s.key));
          if (found === null) assert.deepEqual(all, []);
          else assert.ok(all.includes(found));
          assert.ok(table.probed <= table.masks);
        }
        assert.equal(table.flows.length, list.length);
        assert.equal(table.masks, new Set(list.map((f) => f.mask.join())).size);
      }
    }),
    { seed, numRuns: RUNS },
  );
});

function words9(...words: number[]): Int32Array {
  const key = new Int32Array(DP_WORDS);
  key.set(words);
  return key;
}

test('a table of many thousand flows finds each, and ranks the subtable that is used most first', () => {
  const table = new MegaflowTable(true);
  const exact = new Int32Array(DP_WORDS).fill(-1);
  const port = Int32Array.from(exact, (_, i) => (i === 0 ? -1 : 0));
  table.insert(0, words9(99, 0, 0, 0, 0, 0, 0, 0, 0), port, []);
  const key = (i: number): Int32Array => words9(1, i, i * 7, 0, 8, i ^ 0x5555, 0, i << 16, 17);
  for (let i = 1; i <= 5000; i++) table.insert(i, key(i), exact, [{ type: 'output', port: i }]);
  for (let i = 1; i <= 5000; i++) assert.equal(table.find(key(i))!.id, i);
  assert.equal(table.probed, 2);
  for (let i = 0; i < 20_000; i++) table.find(key(1 + (i % 5000)));
  assert.equal(table.probed, 1);
  assert.equal(table.find(words9(99, 1, 2, 3, 4, 5, 6, 7, 8))!.id, 0);
  assert.equal(table.find(words9(98, 1, 2, 3, 4, 5, 6, 7, 8)), null);
});

test('the hash spreads keys that differ in one field', () => {
  const k = new Int32Array(DP_WORDS);
  for (const word of [0, 1, 2, 3, 4, 5, 6, 7, 8]) {
    k.fill(0x12345678);
    const seen = new Set<number>();
    for (let i = 0; i < 1000; i++) {
      k[word] = word === 0 ? i & 0xff : i << 16;
      seen.add(word === 0 ? hashKey(k, false) : hashKey(k, false) & 8191); // few ports: the whole hash
    }
    assert.ok(seen.size > (word === 0 ? 200 : 800), `word ${word}: ${seen.size} of 1000`);
  }
});

// ---- the datapaths ---------------------------------------------------------------------------------------------------
const PORTS = 4;
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const arrival = fc.record({
  port: fc.integer({ min: 1, max: PORTS }),
  source: fc.integer({ min: 1, max: 5 }),
  destination: fc.oneof(
    fc.integer({ min: 1, max: 6 }),
    fc.constantFrom(BROADCAST, '01:00:5e:00:00:05', '01:80:c2:00:00:02'),
  ),
  extra: fc.nat(3),
});

test(`both datapaths forward as a learning switch does, whatever caches they have (seed ${seed})`, () => {
  fc.assert(
    fc.property(fc.array(arrival, { maxLength: 120 }), (arrivals) => {
      const switches = KINDS.map((kind) => new Switch(kind, PORTS, { packets: 64 }));
      const learned = new Map<number, number>();
      // installed flows carry a frame without asking anybody, so a known source is learned when it first misses
      for (const [i, a] of arrivals.entries()) {
        const others = [1, 2, 3, 4].filter((p) => p !== a.port);
        const reserved = a.destination === '01:80:c2:00:00:02';
        if (!reserved) learned.set(a.source, a.port);
        const at = typeof a.destination === 'number' ? learned.get(a.destination) : undefined;
        const wanted = reserved ? [] : at === undefined ? others : at === a.port ? [] : [at];
        for (const s of switches) {
          assert.deepEqual(s.send(a.port, frame(a.destination, a.source, a.extra), i / 1e6), wanted, `frame ${i}`);
          assert.equal(s.bare.services.pool.live, 0);
        }
      }
      for (const s of switches) {
        const fdb = s.ofproto
          .entries(arrivals.length * 1000)
          .map((e) => [Number.parseInt(e.mac.slice(-2), 16), e.port] as const);
        assert.deepEqual(new Map(fdb), learned);
      }
    }),
    { seed, numRuns: RUNS },
  );
});

test('the exact match cache and dpcls agree, over more flows than the cache ever takes', () => {
  // a flow enters the cache with one in 100 of its misses: some are hot, most are seen too seldom
  const s = new Switch('netdev', 3, { packets: 16 });
  const random = new RandomStream(7, 'flows');
  const at = new Map<number, number>();
  for (let i = 0; i < (full ? 400_000 : 40_000); i++) {
    const source = 1 + random.below(12);
    const port = (source % 3) + 1;
    at.set(source, port);
    const destination = 1 + random.below(12);
    const to = at.get(destination);
    const out = s.send(port, frame(destination, source, random.below(2) === 0 ? 0 : random.below(500)), i / 1e6);
    const wanted = to === undefined ? [1, 2, 3].filter((p) => p !== port) : to === port ? [] : [to];
    assert.deepEqual(out, wanted);
    s.bare.events.length = 0;
  }
  const d = s.bridge as Extract<typeof s.bridge, { emcHits: number }>;
  assert.ok(d.emcHits > 100 && d.megaflowHits > 100);
});
