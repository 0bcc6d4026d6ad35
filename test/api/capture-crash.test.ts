/** A server that dies in the middle of a capture: what was written is readable, listed and indexed by the next one. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect } from 'vitest';
import { BlockWalk, PACKET_BLOCK } from '../../src/readers/capture/pcapng-blocks.ts';
import { requirePeer } from '../peer/peers.ts';
import { Ringside } from '../tools/ringside.ts';

const T = '/v1/topologies/t1';
const servers: Ringside[] = [];
afterEach(async () => {
  for (const server of servers.splice(0).reverse()) await server.stop();
});
async function start(env: Record<string, string> = {}): Promise<Ringside> {
  const server = await Ringside.start(env);
  servers.push(server);
  return server;
}
interface Capture {
  readonly state: string;
  readonly end: { readonly reason: string } | null;
  readonly files: readonly {
    readonly name: string;
    readonly bytes: number;
    readonly packets: number;
    readonly lastFrame: number;
  }[];
  readonly packets: number;
}
function packetsIn(file: Uint8Array): { packets: number; whole: number } {
  const walk = new BlockWalk(file);
  let packets = 0;
  while (walk.step()) if (walk.type === PACKET_BLOCK) packets++;
  return { packets, whole: walk.end };
}
/** What tshark says about a file: rows, and its own words where it is not happy. */
function tshark(file: string): Promise<{ rows: number; errors: string }> {
  return new Promise((resolve) => {
    execFile(
      'tshark',
      ['-r', file, '-T', 'fields', '-e', 'frame.number'],
      { maxBuffer: 1 << 28 },
      (_error, out, errors) => {
        const words = errors.split('\n').filter((line) => line !== '' && !line.startsWith('Running as user'));
        resolve({ rows: out.split('\n').length - 1, errors: words.join('\n') });
      },
    );
  });
}

requirePeer('tshark')(
  'killed in mid-capture: every whole row is there, the next server lists them and goes on',
  async () => {
    const server = await start();
    const document = await server.json<object>('GET', '/v1/presets/vhost-net');
    await server.json('PUT', T, document);
    const spec = { name: 'crash', view: 'journey', slow: 'block', file: { maxBytes: 8_000_000 } };
    await server.json('POST', `${T}/captures`, spec);
    const udp = { kind: 'udp', from: 'a/net0', to: 'b/net0', count: 10_000_000, rate: 'max' };
    await server.json('POST', `${T}/traffic`, udp);
    for (;;) {
      const { files } = await server.json<Capture>('GET', `${T}/captures/crash`);
      if (files.length > 2) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await server.crash();

    const folder = join(server.folder, 'captures', 't1', 'crash');
    const names = readdirSync(folder).filter((name) => name.endsWith('.pcapng'));
    const found = names.map((name) => packetsIn(readFileSync(join(folder, name))));
    assert.ok(found.every((f) => f.packets > 0));
    for (const [i, name] of names.entries()) {
      const { rows, errors } = await tshark(join(folder, name));
      assert.equal(rows, found[i]?.packets);
      if (errors !== '') expect(errors).toContain('cut short');
    }

    const again = await start({ RINGSIDE_DATA_DIR: server.folder });
    const capture = await again.json<Capture>('GET', `${T}/captures/crash`);
    assert.equal(capture.state, 'INTERRUPTED');
    assert.equal(capture.end?.reason, 'INTERRUPTED');
    assert.deepEqual(
      capture.files.map((f) => [f.name, f.bytes, f.packets]),
      names.map((name, i) => [name, found[i]?.whole, found[i]?.packets]),
    );
    assert.equal(
      capture.packets,
      found.reduce((sum, f) => sum + f.packets, 0),
    );
    assert.equal((await tshark(join(folder, names.at(-1) ?? ''))).errors, '', 'trimmed');
    const frame = capture.files.at(-1)?.lastFrame ?? 0;
    const { hops } = await again.json<{ hops: unknown[] }>('GET', `${T}/captures/crash/frames/${frame}`);
    assert.ok(hops.length > 0);
    const next = await again.json<{ id: string }>('POST', `${T}/captures`, {});
    assert.equal(next.id, 'capture-2');
  },
);
