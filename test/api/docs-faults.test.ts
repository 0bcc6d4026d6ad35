/** docs/faults.md: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { expect } from 'vitest';
import { testPrinted } from './printed-commands.ts';

testPrinted('docs/faults.md', 'faults asked for with curl work as printed', [], (printed) => {
  const { said } = printed;
  type Json = Record<string, unknown>;
  const after = (command: string): Json[] =>
    printed
      .after(command)
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line) as Json);
  const [armed, run, fault] = after('everyFrames');
  expect(armed?.['state'], said).toBe('ARMED');
  expect(run?.['state'], said).toBe('SUCCEEDED');
  expect(fault?.['strikes'], said).toBeGreaterThanOrEqual(5);
  expect(fault?.['duplicated'], said).toBe(run?.['duplicated']);
  const [world] = after('curl -sS $T; echo');
  expect((world?.['conservation'] as Json | undefined)?.['holds'], said).toBe(true);
  const names = new Set(after('events=fault').map((event) => event['event']));
  for (const name of ['fault.begin', 'vhost_user.backend_dead', 'qemu.backend_gone', 'qemu.backend_back', 'fault.end'])
    expect([...names], said).toContain(name);
  const [ended, ping] = after('DELETE');
  expect(ended?.['state'], said).toBe('ENDED');
  expect(ping?.['received'], said).toBe(3);
  const [lost, , seen] = after('lost_interrupt');
  expect(lost?.['state'], said).toBe('ARMED');
  expect(seen?.['strikes'], said).toBe(1);
});
