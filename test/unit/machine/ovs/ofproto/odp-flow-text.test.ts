/** Datapath flows as texts: what is printed is read back, what is no flow is refused, and `ofproto/trace` takes them. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, test } from 'vitest';
import { formatOdpKey } from '../../../../../src/machine/ovs/datapath/odp-text.ts';
import { DP_WORDS } from '../../../../../src/machine/ovs/flow/flow.ts';
import { parseFlow } from '../../../../../src/machine/ovs/flow/text/flow-text.ts';
import { OdpTextError, parseOdpFlow } from '../../../../../src/machine/ovs/ofproto/odp-flow-text.ts';
import { TraceError } from '../../../../../src/machine/ovs/ofproto/trace-command.ts';
import { bytesOf, CaseSwitch } from './case-switch.ts';

const vectors = JSON.parse(readFileSync(new URL('../../../../vectors/ovs/cases.json', import.meta.url), 'utf8')) as {
  readonly cases: readonly {
    readonly results: readonly { readonly frame?: string; readonly datapath_flows?: readonly string[] }[];
  }[];
};
const steps = vectors.cases.flatMap(({ results }) => results);
const frames = [...new Set(steps.flatMap(({ frame }) => frame ?? []))].filter((frame) => frame.length >= 28);
const everything = new Int32Array(DP_WORDS).fill(-1);

function bridge(): CaseSwitch {
  const sw = new CaseSwitch();
  const br0 = sw.addBridge('br0', bytesOf('0200000000aa'), 'secure');
  for (let n = 1; n <= 4; n++) sw.addPort(br0, `p${n}`, n, 'dummy');
  br0.tables.flowMod(parseFlow('udp,actions=set_field:53->udp_dst,output:2'), sw.now);
  return sw;
}

describe('datapath flows as texts', () => {
  test('the keys of all recorded frames, printed and read', () => {
    const sw = bridge();
    assert.ok(frames.length > 30);
    for (const frame of frames) {
      const key = sw.keyOf(bytesOf(frame), 'p1');
      const text = formatOdpKey(key, everything, { verbose: true });
      const read = parseOdpFlow(text, () => null);
      assert.equal(formatOdpKey(read.w.slice(0, DP_WORDS), everything, { verbose: true }), text);
    }
  });

  test('recorded lines of dump-flows are read, statistics and actions left aside', () => {
    const lines = steps.flatMap(({ datapath_flows: flows }) => flows ?? []);
    for (const line of lines)
      assert.equal(parseOdpFlow(line, (name) => (name.startsWith('p') ? 1 : 9)).w[0]! > 0, true);
  });

  test('a trace of a datapath flow says what one of the frame says', () => {
    const sw = bridge();
    const frame = frames.find((hex) => hex.startsWith('0000000000020000000000010800') && hex.slice(46, 48) === '11')!;
    const text = formatOdpKey(sw.keyOf(bytesOf(frame), 'p1'), everything, { verbose: true, portName: sw.portName });
    const wanted = sw.trace(['br0', '--names', 'in_port=p1', frame]);
    assert.equal(sw.trace(['--names', text]), wanted);
    assert.equal(sw.trace(['ovs-netdev', text, '--names']), wanted);
  });

  test('what is wrong with arguments is said', () => {
    const sw = bridge();
    const refused = (args: readonly string[], message: RegExp): void => {
      assert.throws(
        () => sw.trace(args),
        (error: unknown) => error instanceof TraceError && message.test(error.message),
      );
    };
    refused([], /^Syntax error$/);
    refused(['in_port=1'], /\(or the bridge name was omitted\)$/);
    refused(['br7', 'in_port=1'], /^br7: unknown bridge$/);
    refused(['br0', 'in_port=1', 'zz'], /^Trailing garbage in packet data$/);
    refused(['br0', 'dl_src=1'], /^Bad openflow flow syntax: /);
    refused(['--what', 'br0', 'in_port=1'], /^--what: unknown option$/);
    refused(['br0', 'in_port=1', '--ct-next'], /^Missing argument for option --ct-next$/);
    refused(['br0', 'in_port=1', '--ct-next', 'maybe'], /maybe/);
    refused(['in_port(77),eth()'], /^no OpenFlow port for datapath port 77$/);
  });

  test('nesting has an end, and only words are words', () => {
    const nested = (depth: number): string => `${'encap('.repeat(depth)}eth()${')'.repeat(depth)}`;
    assert.doesNotThrow(() => parseOdpFlow(nested(20), () => 1));
    assert.throws(() => parseOdpFlow(nested(32), () => 1), OdpTextError);
    assert.throws(() => parseOdpFlow(nested(5000), () => 1), OdpTextError);
    assert.throws(() => parseOdpFlow('ipv4(frag=constructor)', () => 1), OdpTextError);
  });

  test('any text is a flow or is refused (seed printed on failure)', () => {
    const word = fc.constantFrom(
      'eth',
      'in_port',
      'ipv4',
      '(',
      ')',
      'src=',
      'dst=1.2.3.4',
      ',',
      '/',
      '0x',
      '7',
      'encap(',
      'vlan(vid=',
      'ct_state(',
      '+new',
      ':',
      ' ',
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 12 }), (words) => {
        try {
          parseOdpFlow(words.join(''), () => 1);
        } catch (error) {
          assert.ok(error instanceof OdpTextError, String(error));
        }
      }),
      { numRuns: 500 },
    );
  });
});
