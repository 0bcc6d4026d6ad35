/** The README's tour: its commands, exactly as printed, in one shell, against a real server that was just started. */
import { expect } from 'vitest';
import { testPrinted } from './printed-commands.ts';

testPrinted('README.md', 'the tour works as printed', ['tshark'], ({ after, file }) => {
  expect(after('"kind":"ping"')).toMatch(/"state":"SUCCEEDED"/);
  expect(after('frames/1')).toMatch(/\n.*\n.*\n/);
  expect(file('frame-1.svg').toString()).toMatch(/^<svg /);
  expect(after('demo/dry-runs')).toMatch(/^\[asked\] frame \d+, 60 bytes: delivered$/m);
  expect(after('demo/journeys')).toMatch(/^100000 frames on \d+ ways?;/m);
  expect(after('"count":100000')).toMatch(/"state":"SUCCEEDED".*"sent":100000/);
  expect(after('tshark -r demo.pcapng').trim().split('\n')).toHaveLength(12);
  expect(file('demo.pcapng').length).toBeGreaterThan(5000);
  expect(after('demo/captures')).toMatch(/"end":\{"reason":"REQUESTED".*"lost":\{"events":0,"packets":0\}/);
  expect(file('all.pcapng').length).toBeGreaterThan(5_000_000);
  for (const line of after('demo/events').trim().split('\n')) expect(() => JSON.parse(line), line).not.toThrow();
  expect(after('/metrics').trim().split('\n').length).toBeGreaterThan(1);
  const timeline = file('run-2.om').toString();
  expect(timeline).toMatch(/^ringside_sent_frames_total\{.* \d+\.\d{3}$/m);
  expect(timeline.endsWith('# EOF\n')).toBe(true);
  const compared = after('presets/compare');
  for (const backend of ['virtio-net', 'vhost-net', 'vhost-user']) expect(compared).toContain(`${backend}\n`);
  expect(compared.match(/"perFrame":\{/g)).toHaveLength(3);
});
