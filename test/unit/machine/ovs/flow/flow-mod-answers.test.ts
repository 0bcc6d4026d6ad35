/** FLOW_MODs as Open vSwitch took and refused them: matches of OpenFlow 1.1, set_field of what is no field. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { OfError } from '../../../../../src/machine/ovs/flow/actions.ts';
import { formatMatch } from '../../../../../src/machine/ovs/flow/text/match-text.ts';
import { decodeActionList } from '../../../../../src/machine/ovs/flow/wire/action-decode.ts';
import { decodeTlvMatch, encodeTlvMatch } from '../../../../../src/machine/ovs/flow/wire/match-wire.ts';
import { decodeOfp11Match } from '../../../../../src/machine/ovs/flow/wire/ofp11-match.ts';
import { readTlv } from '../../../../../src/machine/ovs/flow/wire/tlv.ts';
import { Reader } from '../../../../../src/machine/ovs/openflow/wire/buffer.ts';
import { pullMatch } from '../../../../../src/machine/ovs/openflow/wire/matches.ts';

const OFP13 = 4;
const vectors = JSON.parse(
  readFileSync(new URL('../../../../vectors/ovs/flow-mod-answers.json', import.meta.url), 'utf8'),
) as {
  readonly ofp11Matches: readonly { readonly hex: string; readonly answer: string }[];
  readonly setField: Readonly<Record<string, string>>;
};
const bytesOf = (hex: string): Uint8Array => Uint8Array.from(Buffer.from(hex, 'hex'));
function answer(run: () => string): string {
  try {
    return run();
  } catch (error) {
    if (error instanceof OfError) return error.errorName;
    throw error;
  }
}

describe('OFPMT_STANDARD', () => {
  test.each(vectors.ofp11Matches)('$answer', ({ hex, answer: expected }) => {
    // Dumps carry it as OXM.
    const shown = answer(() => {
      const oxm = encodeTlvMatch(decodeOfp11Match(bytesOf(hex), 0), OFP13);
      return formatMatch(decodeTlvMatch(oxm, 0, oxm.length).match);
    });
    expect(shown).toBe(expected);
  });
  test.each([4, 8, 40, 87, 96])('its length is 88 and not %i', (length) => {
    const bytes = new Uint8Array(104);
    bytes[3] = length;
    expect(answer(() => `${pullMatch(new Reader(bytes, 0), OFP13).mask.w[0]}`)).toBe('OFPBMC_BAD_LEN');
  });
  test('a PACKET_OUT has no such match', () => {
    const bytes = new Uint8Array(104);
    bytes[3] = 88;
    expect(answer(() => `${pullMatch(new Reader(bytes, 0), OFP13, true).mask.w[0]}`)).toBe('OFPBMC_BAD_TYPE');
  });
});

test.each(Object.entries(vectors.setField))('set_field of headers that are refused with %s', (error, headers) => {
  for (const hex of headers.split(' ')) {
    const bytes = new Uint8Array(4 + 256);
    bytes.set(bytesOf(hex));
    const view = new DataView(bytes.buffer);
    expect([hex, answer(() => readTlv(view, 0, bytes.length, true).field?.name ?? 'none')]).toEqual([hex, error]);
  }
});

test('NXAST_LEARN: the reserved bits of a specification are not looked at, what it would need comes first', () => {
  const learn =
    'ffff003800002320001000050000800000000000000000000000050000000000003000000406000000000206000010100000000200008100';
  expect(answer(() => `${decodeActionList(bytesOf(learn), 0, learn.length / 2, OFP13).length}`)).toBe('OFPBAC_BAD_LEN');
});
