import { expect, test } from 'vitest';
import { parseTarget, ptcpTarget, tcpTarget } from '../../../src/attach/targets.ts';

test.each([
  ['tcp:127.0.0.1:6640', { kind: 'tcp', passive: false, host: '127.0.0.1', port: 6640 }],
  ['tcp:[::1]:6653', { kind: 'tcp', passive: false, host: '::1', port: 6653 }],
  ['tcp:sdn.example', { kind: 'tcp', passive: false, host: 'sdn.example', port: null }],
  ['ptcp:', { kind: 'tcp', passive: true, host: '', port: null }],
  ['ptcp:6640', { kind: 'tcp', passive: true, host: '', port: 6640 }],
  ['ptcp:0:127.0.0.1', { kind: 'tcp', passive: true, host: '127.0.0.1', port: 0 }],
  ['ptcp:6640:[::1]', { kind: 'tcp', passive: true, host: '::1', port: 6640 }],
  ['unix:/run/db.sock', { kind: 'unix', passive: false, path: '/run/db.sock' }],
  ['punix:br0.mgmt', { kind: 'unix', passive: true, path: 'br0.mgmt' }],
])('%s', (text, target) => {
  expect(parseTarget(text)).toEqual(target);
});

test.each([
  'tcp:',
  'tcp:::1:6640',
  'tcp:a:b',
  'ptcp:65536',
  'ptcp:x',
  'unix:',
  'ssl:127.0.0.1:6640',
  'pssl:6640',
  'a',
  '',
])('%s is none', (text) => {
  expect(parseTarget(text)).toBeTypeOf('string');
});

test('addresses with colons are in brackets', () => {
  expect(tcpTarget('::1', 1)).toBe('tcp:[::1]:1');
  expect(ptcpTarget('127.0.0.1', 6640)).toBe('ptcp:6640:127.0.0.1');
});
