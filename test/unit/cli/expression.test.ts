/** Assertions: what is read, what is computed, and that nothing else can be done with them. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ExpressionError, parseExpression } from '../../../src/cli/expression.ts';

const RESULT: Readonly<Record<string, unknown>> = {
  sent: 100,
  received: 98,
  state: 'SUCCEEDED',
  shared: false,
  reason: null,
  virtual: { latencySeconds: { p50: 0.00002, p99: 0.0004 }, framesPerSecond: 1_250_000 },
  dropped: { 'tap.queue_full': 2 },
  queues: [{ queue: 'rx0', kicks: 3 }, { queue: 'tx0' }],
};
const scope = (name: string): unknown => (Object.hasOwn(RESULT, name) ? RESULT[name] : undefined);
const holds = (text: string): boolean => parseExpression(text).evaluate(scope);
function refusal(text: string): string {
  try {
    return `evaluated to ${parseExpression(text).evaluate(scope)}`;
  } catch (error) {
    if (error instanceof ExpressionError) return error.message;
    throw error;
  }
}

describe('what holds and what does not', () => {
  test.each([
    ['sent == 100', true],
    ['sent != 100', false],
    ['received<sent', true],
    ['received <= 98 && received >= 98', true],
    ['received > 98 || sent > 100', false],
    ['!(received > 98)', true],
    ['!shared && !false', true],
    ['shared', false],
    ['virtual.latencySeconds.p50 == 20us', true],
    ['virtual.latencySeconds.p99 < 0.5ms', true],
    ['1.5e3us == 1.5ms && 245.759us == 245759ns', true],
    ['virtual.latencySeconds["p99"] < 400000ns', false],
    ['virtual.framesPerSecond >= 1.25M && virtual.framesPerSecond < 1251k', true],
    ['sent - received == dropped["tap.queue_full"]', true],
    ["dropped['nic.rx_ring_full'] == 0", true],
    ['(sent - received) / sent <= 0.02', true],
    ['1 + 2 * 3 == 7 && (1 + 2) * 3 == 9 && 7 % 4 == 3', true],
    ['10 - 4 - 3 == 3 && 16 / 4 / 2 == 2', true],
    ['-received == -98 && - - 1 == 1', true],
    ['1e3 == 1000 && 2.5e-1 == 0.25', true],
    ['state == "SUCCEEDED" && state != \'FAILED\'', true],
    ['reason == null', true],
    ['queues.length == 2 && queues[0].kicks == 3', true],
    ['true || nothing.at.all', true],
    ['false && nothing.at.all', false],
    ['sent == 100 == true', null],
  ])('%s', (text, expected) => {
    if (expected === null) expect(refusal(text)).toMatch(/operator is expected/);
    else expect(holds(text)).toBe(expected);
  });
});

describe('what is wrong is told', () => {
  test.each([
    ['', /^column 1: the end where a value is expected$/],
    ['sent ==', /^column 8: the end where a value is expected$/],
    ['sent = 1', /^column 6: '= 1' is not understood$/],
    ['sent == 1 2', /^column 11: '2' where an operator is expected$/],
    ['(sent == 1', /^column 11: the end where '\)' is expected$/],
    ['queues[kicks]', /^column 8: 'kicks' where an index or a text is expected$/],
    ['queues[1.5]', /an index or a text/],
    ['virtual.', /^column 9: the end where a name is expected$/],
    ['"open', /^column 1: '"open' is not understood$/],
    ['5parsecs > 1', /is not understood/],
    ['sent', /^'sent' is 100, not true or false$/],
    ['sent && true', /^100 is not true or false$/],
    ['state > 1', /^"SUCCEEDED" is no number$/],
    ['virtual == 1', /^an object cannot be compared$/],
    ['queues == 1', /^a list of 2 cannot be compared$/],
    ['sent / (sent - 100) > 1', /^100 \/ 0 is no number$/],
    ['nobody == 1', /^there is no 'nobody' in the result$/],
    ['virtual.latency.p50 < 1', /^there is no 'latency' in virtual: it has latencySeconds, framesPerSecond$/],
    ['queues[2].kicks == 1', /^there is no '2' in queues: it has 2 items$/],
    ['sent.bits == 1', /^there is no 'bits' in sent: it has no members$/],
    ['dropped["tap.ful"] == 0', /^there is no 'tap\.ful' in dropped/],
    [`${'('.repeat(60)}1${')'.repeat(60)} == 1`, /nested too deeply/],
    [`${'!'.repeat(60)}true`, /nested too deeply/],
    ['1'.repeat(2001), /too long/],
  ])('%s', (text, expected) => {
    expect(refusal(text)).toMatch(expected);
  });
});

test('only own members of data are seen', () => {
  for (const text of [
    'constructor == 1',
    '__proto__ == 1',
    'toString == 1',
    'virtual.constructor == 1',
    'virtual["__proto__"] == 1',
    'queues.push == 1',
    'queues["0"].kicks == 3',
    'state.length == 9',
    'sent.constructor.name == "Number"',
    'process.exit == 1',
    'globalThis == 1',
  ])
    expect(refusal(text)).toMatch(/^there is no '/);
});

test('its paths are told with what they lead to', () => {
  const expression = parseExpression('sent > received && queues[1].queue == "tx0"');
  expect([...expression.names]).toEqual(['sent', 'received', 'queues']);
  expect(expression.values(scope)).toEqual([
    ['sent', 100],
    ['received', 98],
    ['queues[1].queue', 'tx0'],
  ]);
});

test('arithmetic is that of JavaScript, whatever is nested in what', () => {
  const sum = fc.letrec<{ node: string }>((tie) => ({
    node: fc.oneof(
      { maxDepth: 6 },
      fc.integer({ min: 1, max: 999 }).map(String),
      fc.tuple(tie('node'), fc.constantFrom('+', '-', '*'), tie('node')).map(([a, mark, b]) => `${a} ${mark} ${b}`),
      tie('node').map((a) => `(${a})`),
      tie('node').map((a) => `- ${a}`),
    ),
  })).node;
  fc.assert(
    fc.property(sum, sum, fc.constantFrom('<', '<=', '==', '>', '>=', '!='), (a, b, mark) => {
      // biome-ignore lint/security/noGlobalEval: numbers and marks that the test has made itself
      const [left, right] = [globalThis.eval(a) as number, globalThis.eval(b) as number];
      const expected: Record<string, boolean> = {
        '<': left < right,
        '<=': left <= right,
        '==': left === right,
        '>': left > right,
        '>=': left >= right,
        '!=': left !== right,
      };
      expect(holds(`${a} ${mark} ${b}`)).toBe(expected[mark]);
    }),
    { numRuns: 500 },
  );
});

test('any text is an expression or is refused', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'sent',
      'virtual',
      '.',
      '[',
      ']',
      '(',
      ')',
      '!',
      '&&',
      '||',
      '==',
      '<',
      '-',
      '*',
      '1',
      '2us',
      '"a"',
      'null',
      ' ',
    ),
    fc.string({ maxLength: 4 }),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      expect(typeof refusal(pieces.join(''))).toBe('string');
    }),
    { numRuns: 3000 },
  );
});
