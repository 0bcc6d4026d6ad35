/** Files of captures on disk as Wireshark's own tools take them: without a word, one by one and put together. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { Ringside } from '../tools/ringside.ts';
import { requirePeer } from './peers.ts';

const T = '/v1/topologies/t1';
let server: Ringside;
beforeAll(async () => {
  server = await Ringside.start();
  await server.json('PUT', T, await server.json<object>('GET', '/v1/presets/virtio-net'));
});
afterAll(() => server?.stop());

interface Capture {
  readonly id: string;
  readonly packets: number;
  readonly files: readonly { readonly name: string; readonly packets: number }[];
}
/** Runs a program that has to end well and to complain about nothing; returns its output. */
function quiet(program: string, ...args: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { maxBuffer: 1 << 28 }, (error, stdout, stderr) => {
      const words = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('Running as user'));
      if (error !== null || words.length > 0) reject(new Error(`${program} ${args.join(' ')}: ${words.join('; ')}`));
      else resolve(stdout);
    });
  });
}
const rows = async (file: string): Promise<number> =>
  (await quiet('tshark', '-r', file, '-T', 'fields', '-e', 'frame.number')).split('\n').length - 1;

for (const view of ['wire', 'journey', 'events']) {
  requirePeer(
    'tshark',
    'capinfos',
    'editcap',
    'mergecap',
  )(`files of view=${view}`, async () => {
    const spec = { name: `peer-${view}`, view, slow: 'block', file: { maxPackets: 150 } };
    await server.json('POST', `${T}/captures`, spec);
    const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 300, frameSize: 100 };
    const { id } = await server.json<{ id: string }>('POST', `${T}/traffic`, udp);
    await server.json('GET', `${T}/traffic/${id}?wait=30s`);
    const capture = await server.json<Capture>('PATCH', `${T}/captures/peer-${view}`, { state: 'STOPPED' });
    const folder = join(server.folder, 'captures', 't1', capture.id);
    const paths = capture.files.map((file) => join(folder, file.name));
    assert.ok(paths.length >= 2);
    for (const [i, path] of [paths[0], paths.at(-1)].entries()) {
      const file = i === 0 ? capture.files[0] : capture.files.at(-1);
      assert.equal(await rows(path ?? ''), file?.packets);
      assert.match(
        await quiet('capinfos', '-c', '-M', path ?? ''),
        new RegExp(`Number of packets: +${file?.packets}\\b`),
      );
    }
    const merged = join(server.folder, `${view}-merged.pcapng`);
    await quiet('mergecap', '-w', merged, ...paths);
    assert.equal(await rows(merged), capture.packets);
    const whole = join(server.folder, `${view}-whole.pcapng`);
    const response = await fetch(`${server.url}${T}/captures/${capture.id}/capture.pcapng`);
    writeFileSync(whole, Buffer.from(await response.arrayBuffer()));
    assert.equal(await rows(whole), capture.packets);
    const copy = join(server.folder, `${view}-copy.pcapng`);
    await quiet('editcap', whole, copy);
    assert.equal(await rows(copy), capture.packets);
  });
}
