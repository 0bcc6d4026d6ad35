/** Matches and actions against the bytes and the words of the real ovs-ofctl and Open vSwitch. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { checkActions } from '../../../../../src/machine/ovs/flow/action-check.ts';
import type { OfAction } from '../../../../../src/machine/ovs/flow/actions.ts';
import { type Match, normalizeMatch } from '../../../../../src/machine/ovs/flow/match.ts';
import { formatActions } from '../../../../../src/machine/ovs/flow/text/action-format.ts';
import { formatFlow, parseFlow } from '../../../../../src/machine/ovs/flow/text/flow-text.ts';
import { formatMatch } from '../../../../../src/machine/ovs/flow/text/match-text.ts';
import { decodeInstructionList, encodeInstructionList } from '../../../../../src/machine/ovs/flow/wire/instructions.ts';
import { decodeTlvMatch, encodeTlvMatch, MATCH_RULES } from '../../../../../src/machine/ovs/flow/wire/match-wire.ts';
import { decodeOfp10Match, encodeOfp10Match } from '../../../../../src/machine/ovs/flow/wire/ofp10-match.ts';
import { actionsHex, type FlowBytes, type Form, flowMod, flowStats, matchHex, toHex, VECTORS } from './flow-vectors.ts';

/** PACKET_TYPE of an Ethernet frame: a match has it where it says nothing else of Ethernet, and ours takes it as nothing. */
const ONLY_ETHERNET = '8000580400000000';

/** write_metadata and goto_table in 1.0: ovs-ofctl makes a resubmit of the second, which Open vSwitch refuses behind the first. */
const REFUSED = VECTORS.ofctl.find(([version, text]) => version === 1 && text.includes('goto_table:3'))![2];

/** The client's 1.0 carries fields that no type goes with; the switch leaves them out. */
const POINTLESS = new Set(['tp_dst=80,actions=1', 'nw_src=10.0.0.1,actions=1']);
const pointless = VECTORS.ofctl.filter(([version, text]) => version === 1 && POINTLESS.has(text)).map((one) => one[2]);

/** What ovs-ofctl can say and we refuse. */
const UNSUPPORTED = /nat|delete_field/;
const supported = VECTORS.ofctl.filter(([, text]) => !UNSUPPORTED.test(text));

test('NAT and tunnel options are refused, in words and in bytes', () => {
  const rest = VECTORS.ofctl.filter(([, text]) => UNSUPPORTED.test(text));
  assert.ok(rest.length > 4);
  for (const [version, text, hex] of rest) {
    assert.throws(() => parseFlow(text), /actions are invalid with specified match/);
    const read = (): void => {
      const { match, actions } = decode(flowMod(hex));
      checkActions(actions, { match, table: 0, tables: 255, version });
    };
    assert.throws(read, { errorName: /^(OFPBAC_BAD_(TYPE|ARGUMENT)|NXFMFC_INVALID_TLV_FIELD)$/ }, text);
  }
});

/** The match that has to come out. */
function expectedMatch(f: FlowBytes, hex: string): string {
  if (pointless.includes(hex)) return toHex(encodeOfp10Match(decode(f).match));
  return matchHex(f) === ONLY_ETHERNET ? '' : matchHex(f);
}

function encode(match: Match, form: Form, version: number): string {
  return toHex(form === 'ofp10' ? encodeOfp10Match(match) : encodeTlvMatch(match, form === 'nxm' ? 0 : version));
}
function decode(f: FlowBytes): { match: Match; actions: OfAction[] } {
  const actions = decodeInstructionList(f.bytes, f.actionsAt, f.actionsLength, f.version);
  if (f.form !== 'ofp10') {
    const rules = { ...MATCH_RULES, cookie: f.form === 'nxm' };
    return { match: decodeTlvMatch(f.bytes, f.matchAt, f.matchLength, rules).match, actions };
  }
  const match = decodeOfp10Match(f.bytes, f.matchAt);
  normalizeMatch(match);
  return { match, actions };
}

test('a flow in words becomes the bytes that ovs-ofctl sends, in 1.0, NXM, 1.3, 1.4 and 1.5', () => {
  for (const [version, text, hex] of supported) {
    const real = flowMod(hex);
    const mod = parseFlow(text);
    // The client checks with the version that it speaks.
    const actions = checkActions(mod.actions, { match: mod.match, table: 255, tables: 255, version: 1 });
    const expected = expectedMatch(real, hex);
    assert.equal(encode(mod.match, real.form, version), expected, `${version} ${real.form} ${text}`);
    assert.equal(toHex(encodeInstructionList(actions, version)), actionsHex(real), `${version} ${real.form} ${text}`);
  }
});

test('what was read is written as it was', () => {
  for (const hex of [...supported.map((one) => one[2]), ...VECTORS.flowMods.map((one) => one[1])]) {
    const real = flowMod(hex);
    if (hex === REFUSED) {
      assert.throws(() => decode(real), { errorName: 'OFPBAC_UNSUPPORTED_ORDER' });
      continue;
    }
    const { match, actions } = decode(real);
    const expected = expectedMatch(real, hex);
    assert.equal(encode(match, real.form, real.version), expected, hex);
    assert.equal(toHex(encodeInstructionList(actions, real.version)), actionsHex(real), hex);
  }
});

test('fields that no type goes with are left out of a match of 1.0', () => {
  assert.equal(pointless.length, 2);
  for (const hex of pointless) assert.equal(formatMatch(decode(flowMod(hex)).match), '');
});

test('FLOW_MODs read as ovs-ofctl prints them', () => {
  for (const [transcript, hex, printed] of VECTORS.flowMods) {
    const real = flowMod(hex);
    const { match, actions } = decode(real);
    const view = new DataView(real.bytes.buffer);
    const priority = view.getUint16(real.form === 'ofp10' ? 62 : 30);
    const words = /: (?:ADD|MOD|MOD_STRICT|DEL|DEL_STRICT)(?: table:\d+)? (.*)$/s.exec(printed)![1]!;
    // The match is the first word, where there is one; flags and timeouts of a message follow it.
    const matchWords = formatMatch(match, null, priority);
    assert.ok(words.startsWith(matchWords === '' ? '' : `${matchWords} `), `${transcript} ${printed}: ${matchWords}`);
    assert.equal(formatActions(actions), /actions=(.*)$/s.exec(words)![1], `${transcript} ${printed}`);
    if (matchWords === '') assert.match(words, /^((cookie|idle|hard|importance|out_port|buf):\S+ |[a-z_]+ )*actions=/);
  }
});

test('flow statistics read as ovs-ofctl dump-flows prints them', () => {
  let lines = 0;
  for (const [transcript, hex, printed] of VECTORS.flowStats) {
    // 1.5 has another layout around the same match and instructions.
    if (hex.startsWith('06')) continue;
    const entries = flowStats(hex);
    assert.equal(entries.length, printed.length, transcript);
    for (const [i, entry] of entries.entries()) {
      const { match, actions } = decode(entry);
      const flow = {
        ...entry,
        match,
        actions,
        idleTimeout: entry.idle,
        hardTimeout: entry.hard,
        importance: 0,
        // send_flow_rem, check_overlap and reset_counts on the wire.
        flags: (entry.wireFlags & 1) | ((entry.wireFlags & 2) << 2) | ((entry.wireFlags & 4) << 3),
      };
      const { duration, packets, byteCount, idleAge } = entry;
      const text = formatFlow(flow, { duration, packets, bytes: byteCount, idleAge, hardAge: null });
      assert.equal(text, printed[i], transcript);
      lines++;
    }
  }
  assert.ok(lines >= 20);
});
