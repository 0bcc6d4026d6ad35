/** The table of fields, and what matches and actions ask of each other. */
import assert from 'node:assert/strict';
import { test } from 'vitest';
import { checkActions } from '../../../../../src/machine/ovs/flow/action-check.ts';
import {
  FIELDS,
  fieldByAnyName,
  fieldByHeader,
  fieldByName,
  fieldNamed,
  headerOf,
} from '../../../../../src/machine/ovs/flow/fields.ts';
import { Flow, VLAN_CFI, W_CT_STATE, W_IN_PORT, W_METADATA, W_REGS } from '../../../../../src/machine/ovs/flow/flow.ts';
import { Match, matchField } from '../../../../../src/machine/ovs/flow/match.ts';
import { copyBits, parseSubfield } from '../../../../../src/machine/ovs/flow/subfields.ts';
import { formatActions } from '../../../../../src/machine/ovs/flow/text/action-format.ts';
import { parseActions } from '../../../../../src/machine/ovs/flow/text/action-text.ts';
import { parseFlow } from '../../../../../src/machine/ovs/flow/text/flow-text.ts';
import { readSubfield, writeSubfield } from '../../../../../src/machine/ovs/ofproto/xlate/subfield.ts';

test('fields are found by their names, their aliases and their headers', () => {
  // ovs 3.1: MFF_N_IDS, and its first and last.
  assert.equal(FIELDS.length, 183);
  assert.deepEqual([FIELDS[0]!.name, FIELDS.at(-1)!.name], ['dp_hash', 'nsh_ttl']);
  assert.ok(FIELDS.every((field, i) => field.index === i));
  for (const [name, other] of [
    ['dl_dst', 'eth_dst'],
    ['nw_src', 'ip_src'],
    ['tp_dst', 'tcp_dst'],
    ['tunnel_id', 'tun_id'],
    ['ip_proto', 'nw_proto'],
  ] as const) {
    assert.equal(fieldByName(name)?.name, other);
  }
  assert.equal(fieldByName('NXM_OF_ETH_DST'), null);
  assert.equal(fieldByAnyName('NXM_OF_ETH_DST')?.name, 'eth_dst');
  assert.equal(fieldByAnyName('OXM_OF_PKT_REG3')?.name, 'xreg3');
  for (const field of FIELDS) {
    for (const h of field.headers) assert.equal(fieldByHeader(h.header, h.experimenter), field, h.name);
  }
  assert.equal(fieldByHeader(0x80027000, 0), null);
});

test('each version has its header: NXM, the basic class, the experimenters', () => {
  const name = (field: string, version: number): string | undefined => headerOf(fieldNamed(field), version)?.name;
  assert.deepEqual(
    [0, 1, 3, 6].map((version) => name('eth_dst', version)),
    ['NXM_OF_ETH_DST', 'NXM_OF_ETH_DST', 'OXM_OF_ETH_DST', 'OXM_OF_ETH_DST'],
  );
  assert.deepEqual(
    [0, 4, 6].map((version) => name('tcp_flags', version)),
    ['NXM_NX_TCP_FLAGS', 'ONFOXM_ET_TCP_FLAGS', 'OXM_OF_TCP_FLAGS'],
  );
  assert.deepEqual(
    [0, 6].map((version) => name('dp_hash', version)),
    ['NXM_NX_DP_HASH', 'NXM_NX_DP_HASH'],
  );
  assert.equal(name('dl_vlan', 4), undefined);
});

test('fields lie where the layout says, in network order on the outside', () => {
  const flow = new Flow();
  flow.w[W_REGS] = 0x01020304;
  flow.w[W_REGS + 1] = 0x05060708;
  flow.w[W_METADATA] = 1;
  flow.w[W_METADATA + 1] = 2;
  flow.w[W_IN_PORT] = 0xfffffffe | 0;
  flow.w[W_CT_STATE] = (5 << 16) | 0x21;
  assert.deepEqual([...fieldNamed('reg0').get(flow)], [1, 2, 3, 4]);
  assert.deepEqual([...fieldNamed('xreg0').get(flow)], [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual([...fieldNamed('metadata').get(flow)], [0, 0, 0, 1, 0, 0, 0, 2]);
  assert.deepEqual([...fieldNamed('in_port').get(flow)], [0xff, 0xfe]);
  assert.deepEqual([...fieldNamed('in_port_oxm').get(flow)], [0xff, 0xff, 0xff, 0xfe]);
  assert.deepEqual([...fieldNamed('ct_state').get(flow)], [0, 0, 0, 0x21]);
  assert.deepEqual([...fieldNamed('ct_zone').get(flow)], [0, 5]);
  fieldNamed('in_port').set(flow, Uint8Array.of(0xff, 0xfd));
  assert.equal(flow.w[W_IN_PORT], 0xfffffffd | 0);
});

test('a VLAN field makes a tag and its TPID, in packets; without a tag there is none', () => {
  const flow = new Flow();
  fieldNamed('dl_vlan').set(flow, Uint8Array.of(0, 10));
  assert.deepEqual([...fieldNamed('vlan_tci').get(flow)], [VLAN_CFI >> 8, 10]);
  assert.deepEqual([flow.u8[38], flow.u8[39]], [0x81, 0]);
  fieldNamed('vlan_pcp').set(flow, Uint8Array.of(5));
  assert.deepEqual([...fieldNamed('vlan_tci').get(flow)], [0xb0, 10]);
  fieldNamed('vlan_tci').set(flow, Uint8Array.of(0, 0));
  assert.deepEqual([flow.u8[38], flow.u8[39]], [0, 0]);
});

test('a mask of zeros takes a field out of a match again', () => {
  for (const text of ['in_port=3', 'dl_vlan=5', 'dl_vlan_pcp=3', 'reg3=5/0xf', 'vlan_tci=0x1000/0x1000', 'ip']) {
    const name = text.startsWith('ip') ? 'eth_type' : text.slice(0, text.indexOf('='));
    const { match } = parseFlow(`${text},actions=drop`);
    const field = fieldNamed(name);
    matchField(match, field, new Uint8Array(field.bytes), new Uint8Array(field.bytes));
    assert.deepEqual([match.flow.w, match.mask.w], [new Match().flow.w, new Match().mask.w], text);
  }
});

test('subfields read, write and copy bits', () => {
  const flow = new Flow();
  writeSubfield(parseSubfield('reg0[4..11]'), 0xab, flow);
  assert.equal(flow.w[W_REGS], 0xab0);
  assert.equal(readSubfield(parseSubfield('NXM_NX_REG0[8..15]'), flow), 0x0an);
  const to = new Uint8Array(3);
  copyBits(Uint8Array.of(0xff, 0x0f), 2, to, 5, 9);
  // Bits 2 to 10 of 0xff0f are 0b111000011.
  assert.equal((to[0]! << 16) | (to[1]! << 8) | to[2]!, 0b111000011 << 5);
});

test('actions are refused where the match does not let them do what they say', () => {
  const check = (text: string, version = 4, table = 0): string => {
    const at = text.indexOf('|');
    const { match } = parseFlow(`${text.slice(0, at)}actions=drop`);
    return formatActions(checkActions(parseActions(text.slice(at + 1)), { match, table, tables: 255, version }));
  };
  for (const [text, error] of [
    ['|set_field:10.0.0.1->ip_src', 'OFPBAC_MATCH_INCONSISTENT'],
    ['ip,|set_field:80->tcp_dst', 'OFPBAC_MATCH_INCONSISTENT'],
    ['|set_field:4106->vlan_vid', 'OFPBAC_MATCH_INCONSISTENT'],
    ['|dec_ttl', 'OFPBAC_MATCH_INCONSISTENT'],
    ['|pop_vlan', 'OFPBAC_MATCH_INCONSISTENT'],
    ['|ct(commit)', 'OFPBAC_MATCH_INCONSISTENT'],
    ['tcp,|ct(commit,alg=tftp)', 'OFPBAC_MATCH_INCONSISTENT'],
    ['|move:NXM_OF_IP_SRC[]->NXM_NX_REG0[]', 'OFPBAC_MATCH_INCONSISTENT'],
    ['ip,|push_mpls:0x8847,dec_ttl', 'OFPBAC_MATCH_INCONSISTENT'],
    ['|learn(NXM_OF_IP_SRC[]=NXM_OF_IP_DST[])', 'OFPBAC_MATCH_INCONSISTENT'],
    ['|move:NXM_NX_REG0[]->NXM_NX_CT_STATE[]', 'OFPBAC_BAD_SET_ARGUMENT'],
    ['|goto_table:0', 'OFPBIC_BAD_TABLE_ID'],
    ['|meter:0', 'OFPMMFC_INVALID_METER'],
    ['ip,|ct(commit,nat)', 'OFPBAC_BAD_TYPE'],
    ['dl_vlan=5,|push_vlan:0x8100,push_vlan:0x8100', 'OFPBAC_BAD_TAG'],
    ['dl_vlan=5,|push_vlan:0x8100,clone(push_vlan:0x8100)', 'OFPBAC_BAD_TAG'],
    ['dl_vlan=5,|push_vlan:0x8100,write_actions(push_vlan:0x8100)', 'OFPBAC_BAD_TAG'],
  ] as const) {
    assert.throws(() => check(text), { errorName: error }, text);
  }
  for (const [text, printed] of [
    ['|push_vlan:0x8100,set_field:4106->vlan_vid', 'push_vlan:0x8100,set_field:4106->vlan_vid'],
    ['mpls,|pop_mpls:0x0800,dec_ttl', 'pop_mpls:0x0800,dec_ttl'],
    ['udp,|mod_tp_dst:53', 'mod_tp_dst:53'],
    // A clone's tags are gone behind it.
    ['dl_vlan=5,|clone(push_vlan:0x8100),push_vlan:0x8100', 'clone(push_vlan:0x8100),push_vlan:0x8100'],
    ['|write_actions(dec_ttl),goto_table:1', 'write_actions(dec_ttl),goto_table:1'],
    [
      'ip,|learn(eth_type=0x800,NXM_OF_IP_SRC[]=NXM_OF_IP_DST[])',
      'learn(table=1,eth_type=0x800,NXM_OF_IP_SRC[]=NXM_OF_IP_DST[])',
    ],
  ] as const) {
    assert.equal(check(text), printed);
  }
  // OpenFlow 1.0 lets actions stand that do nothing.
  assert.equal(check('|dec_ttl', 1), 'dec_ttl');
  const [port] = checkActions(parseActions('mod_tp_dst:53'), {
    match: parseFlow('udp,actions=drop').match,
    table: 0,
    tables: 255,
    version: 1,
  });
  assert.equal(port?.type === 'set_field' && port.field.name, 'udp_dst');
});
