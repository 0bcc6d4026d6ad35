/**
 * OpenFlow flows made at random: what is written is read as it was, in bytes of all versions and in words; bytes that were tampered
 * with are read or refused with an OpenFlow error, never anything else.
 */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { test } from 'vitest';
import { checkActions } from '../../src/machine/ovs/flow/action-check.ts';
import { OfError } from '../../src/machine/ovs/flow/actions.ts';
import { FIELDS, type Field, fieldNamed, headerOf } from '../../src/machine/ovs/flow/fields.ts';
import { Flow } from '../../src/machine/ovs/flow/flow.ts';
import { isValueValid, Match, matchField, prerequisitesMet } from '../../src/machine/ovs/flow/match.ts';
import { formatActions } from '../../src/machine/ovs/flow/text/action-format.ts';
import { parseActions } from '../../src/machine/ovs/flow/text/action-text.ts';
import { parseFlow } from '../../src/machine/ovs/flow/text/flow-text.ts';
import { formatMatch } from '../../src/machine/ovs/flow/text/match-text.ts';
import { FlowTextError } from '../../src/machine/ovs/flow/text/values.ts';
import { decodeActionList } from '../../src/machine/ovs/flow/wire/action-decode.ts';
import { encodeActionList } from '../../src/machine/ovs/flow/wire/action-encode.ts';
import { decodeInstructionList, encodeInstructionList } from '../../src/machine/ovs/flow/wire/instructions.ts';
import {
  decodeFieldMasks,
  decodeTlvMatch,
  encodeTlvMatch,
  MATCH_RULES,
} from '../../src/machine/ovs/flow/wire/match-wire.ts';
import { decodeOfp10Match, encodeOfp10Match } from '../../src/machine/ovs/flow/wire/ofp10-match.ts';
import { actionsHex, flowMod, fromHex, matchHex, toHex, VECTORS } from '../unit/machine/ovs/flow/flow-vectors.ts';

const full = process.env['RINGSIDE_FULL'] === '1';
const RUNS = full ? 20_000 : 1500;
const seed = Number(process.env['RINGSIDE_SEED'] ?? Date.now() % 2 ** 31);
const settings = { numRuns: RUNS, seed };
const VERSIONS = [0, 4, 5, 6];

/** Bases of which others are prerequisites: Ethernet type, IP protocol, type of ICMPv6. */
const bases = fc.constantFrom(
  '',
  'ip',
  'ipv6',
  'arp',
  'rarp',
  'mpls',
  'tcp',
  'udp',
  'sctp',
  'icmp',
  'tcp6',
  'udp6',
  'sctp6',
  'icmp6',
  'icmp6,icmp_type=135,icmp_code=0',
  'icmp6,icmp_type=136,icmp_code=0',
  'dl_type=0x88cc',
  'ip,nw_proto=47',
  'ct_state=+trk+est,ip',
);
const said = FIELDS.filter((field) => field.present && field.headers.length > 0 && field.name !== 'in_port');
const pieces = fc.array(
  fc.record({
    field: fc.constantFrom(...said),
    value: fc.uint8Array({ minLength: 16, maxLength: 16 }),
    mask: fc.oneof(fc.constant(null), fc.uint8Array({ minLength: 16, maxLength: 16 })),
  }),
  { maxLength: 8 },
);

/** What of the pieces goes together. */
function build(base: string, parts: typeof pieces extends fc.Arbitrary<infer T> ? T : never): Match {
  const match = parseFlow(`${base},actions=drop`).match;
  // Fragments first, as matches are written: later ones have no ports.
  const order = [...parts].sort((a, b) => Number(b.field.format === 'frag') - Number(a.field.format === 'frag'));
  for (const { field, value, mask } of order) {
    if (!prerequisitesMet(field, match) || field.anyBit(match.mask)) continue;
    const bytes = value.slice(0, field.bytes).map((byte, i) => byte & field.valid[i]!);
    const bits = field.maskable && mask !== null ? mask.slice(0, field.bytes).map((b, i) => b & field.valid[i]!) : null;
    if (bits?.every((byte) => byte === 0) || !fitsAsItIs(field, bytes)) continue;
    const exact = bits === null || bits.every((byte, i) => byte === field.valid[i]);
    matchField(match, field, bytes, exact ? null : bits);
  }
  return match;
}
/** Values that the wire has and that mean what they say: ports that exist, a tag's priority only with a tag. */
function fitsAsItIs(field: Field, value: Uint8Array): boolean {
  if (field.format === 'port') {
    const port = new DataView(value.buffer, value.byteOffset).getUint32(0);
    return port < 0xff00 || port >= 0xffffff00;
  }
  // What else stands in the same bytes, with other names: the wire has one of them only.
  const twice = [
    'vlan_tci',
    'vlan_vid',
    'vlan_pcp',
    'nw_tos',
    'ip_dscp',
    'icmp_type',
    'icmp_code',
    'icmpv6_type',
    'icmpv6_code',
  ];
  if (twice.includes(field.name) || field.name.startsWith('ct_') || field.name === 'nw_proto') return false;
  // A fragment that is no fragment has no name.
  if (field.format === 'frag') return (value[0]! & 3) !== 2;
  return isValueValid(field, value);
}

test('a match is read from OXM and NXM as it was written, and from words as it was printed', () => {
  fc.assert(
    fc.property(bases, pieces, fc.constantFrom(...VERSIONS), (base, parts, version) => {
      const match = build(base, parts);
      const bytes = encodeTlvMatch(match, version);
      const again = decodeTlvMatch(bytes, 0, bytes.length).match;
      assert.equal(toHex(encodeTlvMatch(again, version)), toHex(bytes));
      assert.equal(formatMatch(again), formatMatch(match));
      assert.deepEqual([again.flow.w, again.mask.w], [match.flow.w, match.mask.w], formatMatch(match));
      const read = parseFlow(`${formatMatch(match)},actions=drop`).match;
      assert.equal(formatMatch(read), formatMatch(match));
    }),
    settings,
  );
});

test('what a field writes it reads back, and no other bits change', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...said),
      fc.uint8Array({ minLength: 16, maxLength: 16 }),
      fc.uint8Array({ minLength: 264, maxLength: 264 }),
      (field, value, noise) => {
        const flow = new Flow();
        flow.u8.set(noise);
        const bytes = value.slice(0, field.bytes).map((byte, i) => byte & field.valid[i]!);
        field.put(flow, bytes, field.valid);
        const got = field.get(flow);
        // Ports of NXM have 16 bits, ct_state's upper bytes and arp_op's do not exist.
        const kept = field.name === 'arp_op' ? [0, bytes[1]] : [...bytes];
        assert.deepEqual([...got], kept, field.name);
        const changed = new Flow();
        changed.u8.set(noise);
        const all = new Flow();
        field.unwildcard(all);
        for (let i = 0; i < flow.u8.length; i++) {
          assert.equal((flow.u8[i]! ^ changed.u8[i]!) & ~all.u8[i]!, 0, `${field.name} changed byte ${i}`);
        }
        assert.ok(field.allBits(all) && field.anyBit(all));
      },
    ),
    settings,
  );
});

/** Texts of actions that need no match, or hardly any. */
const texts = fc.oneof(
  fc.nat(0xfeff).map((port) => `output:${port}`),
  fc.constantFrom('NORMAL', 'FLOOD', 'ALL', 'LOCAL', 'IN_PORT', 'exit', 'ct_clear', 'pop_queue', 'push_vlan:0x8100'),
  fc.nat(0xffff).map((n) => `CONTROLLER:${n}`),
  fc
    .tuple(fc.nat(0xffff), fc.nat(0xffff), fc.uint8Array({ minLength: 1, maxLength: 40 }), fc.nat())
    .map(
      ([len, id, data, meter]) => `controller(max_len=${len},id=${id},userdata=${toHex(data)},pause,meter_id=${meter})`,
    ),
  fc.tuple(fc.nat(15), fc.nat(31), fc.nat(31), fc.nat()).map(([reg, a, b, value]) => {
    const [from, to] = [Math.min(a, b), Math.max(a, b)];
    return `load:${value % 2 ** (to - from + 1)}->NXM_NX_REG${reg}[${from}..${to}]`;
  }),
  fc
    .tuple(fc.nat(15), fc.nat(), fc.nat())
    .map(([reg, value, mask]) => `set_field:${value & mask}/${mask | 1}->reg${reg}`),
  fc
    .tuple(fc.nat(7), fc.nat(7), fc.nat(15))
    .map(([a, b, ofs]) => `move:NXM_NX_REG${a}[0..15]->NXM_NX_REG${b}[${ofs}..${ofs + 15}]`),
  fc.tuple(fc.nat(0xfeff), fc.nat(254)).map(([port, table]) => `resubmit(${port},${table})`),
  fc
    .tuple(fc.nat(253), fc.nat(0xffff), fc.nat(0xffff))
    .map(
      ([table, idle, priority]) =>
        `learn(table=${table},idle_timeout=${idle},priority=${priority},cookie=0x${idle.toString(16)},NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],reg3=${priority},NXM_NX_REG2[3..${6 + (idle % 20)}]=5,load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15],output:NXM_OF_IN_PORT[])`,
    ),
  fc
    .tuple(fc.nat(0xffff), fc.array(fc.nat(0xfeff), { minLength: 1, maxLength: 9 }))
    .map(([basis, ports]) => `bundle(symmetric_l3l4,${basis},hrw,ofport,members:${ports.join(',')})`),
  fc
    .tuple(fc.nat(0xffff), fc.integer({ min: 1, max: 256 }))
    .map(([basis, links]) => `multipath(eth_src,${basis},modulo_n,${links},0,NXM_NX_REG0[4..11])`),
  fc.uint8Array({ maxLength: 30 }).map((data) => `note:${toHex(data)}`),
  fc.nat().map((n) => `group:${n}`),
  fc.nat().map((n) => `set_queue:${n}`),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }).map((n) => `set_field:${n}->metadata`),
  fc.nat(0xffff).map((n) => `check_pkt_larger(${n})->NXM_NX_REG0[${n % 32}]`),
  fc.nat(15).map((n) => `push:NXM_NX_REG${n}[],pop:NXM_NX_REG${15 - n}[0..${n}]`),
  fc
    .tuple(fc.nat(0xffff), fc.nat(254), fc.nat())
    .map(([zone, table, mark]) => `ct(commit,zone=${zone},table=${table},exec(set_field:${mark}->ct_mark))`),
  fc
    .integer({ min: 1, max: 0xffff })
    .map((n) => `sample(probability=${n},collector_set_id=${n},obs_domain_id=1,obs_point_id=2)`),
);
const lists = fc.array(
  fc.oneof(
    { weight: 9, arbitrary: texts },
    { weight: 1, arbitrary: fc.array(texts).map((all) => `clone(${all.join(',')})`) },
  ),
  { maxLength: 7 },
);

/** What differs only in its words or its padding after a way through bytes. */
function normal(text: string, version: number): string {
  const actions = parseActions(text);
  const bytes = encodeActionList(actions, version);
  return formatActions(decodeActionList(bytes, 0, bytes.length, version));
}

test('actions are read from bytes as they were written, and from words as they were printed', () => {
  fc.assert(
    fc.property(lists, fc.constantFrom(1, 4, 5, 6), (list, version) => {
      const text = list.join(',');
      const printed = formatActions(parseActions(text));
      assert.equal(formatActions(parseActions(printed)), printed);
      const once = normal(text, version);
      assert.equal(normal(once, version), once);
      const actions = parseActions(once);
      const bytes = encodeInstructionList(actions, version);
      assert.equal(bytes.length % 8, 0);
      const again = decodeInstructionList(bytes, 0, bytes.length, version);
      assert.equal(toHex(encodeInstructionList(again, version)), toHex(bytes), text);
    }),
    settings,
  );
});

/** Runs `read`; anything but an OpenFlow error is our mistake. */
function readsOrRefuses(read: () => void): void {
  try {
    read();
  } catch (error) {
    if (!(error instanceof OfError)) throw error;
  }
}
function readAll(bytes: Uint8Array, version: number): void {
  for (const strict of [true, false]) {
    readsOrRefuses(() => {
      const { match } = decodeTlvMatch(bytes, 0, bytes.length, { ...MATCH_RULES, strict, cookie: version === 1 });
      encodeTlvMatch(match, version);
      formatMatch(match);
      encodeOfp10Match(match);
    });
  }
  readsOrRefuses(() => decodeFieldMasks(bytes, 0, bytes.length));
  for (const decode of [decodeActionList, decodeInstructionList]) {
    readsOrRefuses(() => {
      const actions = decode(bytes, 0, bytes.length, version);
      for (const to of [1, 4, 6]) encodeInstructionList(actions, to);
      formatActions(actions);
      checkActions(actions, { match: new Match(), table: 0, tables: 255, version });
    });
  }
  if (bytes.length >= 40) formatMatch(decodeOfp10Match(bytes, 0));
}

test('bytes that were tampered with are read, or refused with an OpenFlow error', () => {
  const bodies = VECTORS.ofctl.map(([version, , hex]) => {
    const real = flowMod(hex);
    return { version, parts: [matchHex(real), actionsHex(real)].map(fromHex).filter((bytes) => bytes.length > 0) };
  });
  const change = fc.record({ at: fc.nat(), value: fc.nat(255) });
  fc.assert(
    fc.property(
      fc.constantFrom(...bodies.filter(({ parts }) => parts.length > 0)),
      fc.nat(1),
      fc.array(change, { maxLength: 4 }),
      fc.nat(40),
      ({ version, parts }, which, changes, cut) => {
        const bytes = parts[which % parts.length]!.slice();
        for (const { at, value } of changes) bytes[at % bytes.length] = value;
        readAll(bytes, version);
        readAll(bytes.slice(0, Math.max(0, bytes.length - cut)), version);
      },
    ),
    settings,
  );
});

test('bytes of no kind are read, or refused with an OpenFlow error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(1, 4, 5, 6), (bytes, version) =>
      readAll(bytes, version),
    ),
    settings,
  );
});

test('words of no kind are refused in a sentence', () => {
  const word = fc.constantFrom(
    ...[
      'in_port',
      'ip',
      'nw_src',
      '=',
      ',',
      '(',
      ')',
      '->',
      'actions=',
      'ct(',
      'learn(',
      'reg0',
      '[',
      '0..',
      ']',
      '1',
      '/',
    ],
    ...[
      'clone(',
      'set_field:',
      'load:',
      'output:',
      'bundle(',
      '0x',
      'zone=',
      'exec(',
      ':',
      '-',
      '"',
      'vlan_vid',
      '*',
      ' ',
    ],
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string({ maxLength: 4 })), { maxLength: 16 }), (words) => {
      for (const text of [words.join(''), `actions=${words.join('')}`]) {
        try {
          parseFlow(text);
        } catch (error) {
          if (!(error instanceof FlowTextError)) throw error;
        }
      }
    }),
    settings,
  );
});

test('every header leads back to its field, and every version has one for what it can say', () => {
  for (const field of said) {
    for (const version of VERSIONS) {
      const header = headerOf(field, version);
      assert.ok(header !== null && header.name.length > 0, field.name);
    }
  }
  assert.equal(fieldNamed('dl_dst'), fieldNamed('eth_dst'));
});
