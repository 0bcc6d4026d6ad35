/** docs/driver-none.md: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { expect } from 'vitest';
import { testPrinted } from './printed-commands.ts';

testPrinted('docs/driver-none.md', 'a driver written with curl works as printed', [], ({ after, said }) => {
  const hex = (output: string): string[] => [...output.matchAll(/"hex":"([0-9a-f]*)"/g)].map((m) => m[1] ?? '');
  expect(after('reg common 20 1 11').trim().split('\n').at(-1)).toBe('{"value":11}');
  const [txUsed = '', rxUsed = '', buffer = ''] = hex(after('look 0x20098 12'));
  expect(txUsed.slice(4, 16), said).toBe('010000000000');
  expect(rxUsed.slice(4, 16), said).toBe('010000000000');
  // an ARP reply of guest b, behind the header
  expect(buffer.slice(24)).toMatch(/^525400000001525400000002080600010800060400025254000000020a000002/);
  // what was injected at the bridge, behind the header
  const [rxAgain = '', injected = ''] = hex(after('look 0x40800 72'));
  expect(rxAgain.slice(4, 8), said).toBe('0200');
  expect(injected.slice(24)).toBe(`52540000000102000000009988b5${'5a'.repeat(46)}`);
  expect(after('reg isr 0 1').trim().split('\n').at(-1)).toBe('{"value":1}');
  expect(after('frames/1')).toContain('a/net0');
  expect(after('events=virtq.error')).toMatch(/"event":"virt(q\.(error|bad_chain)|io\.needs_reset)".*"place":"a\/net0/);
  expect(after('events=virtq.error')).toContain('"state":"RUNNING"');
});
