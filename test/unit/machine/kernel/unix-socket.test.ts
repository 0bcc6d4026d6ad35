import assert from 'node:assert/strict';
import fc from 'fast-check';
import { describe, it } from 'vitest';
import { EAGAIN, EBADF, EINVAL, ENODEV, EPIPE } from '../../../../src/machine/kernel/errno.ts';
import { FdTable, OpenFile } from '../../../../src/machine/kernel/files.ts';
import { Mappings, memfd } from '../../../../src/machine/kernel/memory-file.ts';
import { socketPair } from '../../../../src/machine/kernel/unix-socket.ts';

class Plain extends OpenFile {
  gone = 0;
  protected override released(): void {
    this.gone++;
  }
}
const bytes = (...b: number[]): Uint8Array => Uint8Array.from(b);

describe('a pair of Unix sockets', () => {
  const pair = (limit?: number) => {
    const here = new FdTable();
    const there = new FdTable();
    const [a, b] = socketPair('test', limit);
    return { here, there, a, b, fdA: here.install(a), fdB: there.install(b) };
  };
  it('carries bytes in order, in any pieces, and says when nothing waits', () => {
    fc.assert(
      fc.property(
        fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 })),
        fc.array(fc.integer({ min: 1, max: 50 })),
        (sent, reads) => {
          const { a, b, there } = pair();
          for (const s of sent) assert.equal(a.send(s), s.length);
          const got: number[] = [];
          for (const n of [...reads, 10_000]) {
            const r = b.receive(n, there);
            if (typeof r === 'number') assert.equal(r, -EAGAIN);
            else got.push(...r.bytes);
          }
          assert.deepEqual(
            got,
            sent.flatMap((s) => [...s]),
          );
          assert.equal(b.waiting, 0);
        },
      ),
      { verbose: 1 },
    );
  });
  it('files come with the first byte that they were sent with, as descriptors of the reader', () => {
    const { a, b, there } = pair();
    const file = new Plain('x');
    a.send(bytes(1, 2));
    a.send(bytes(3, 4), [file, file]);
    a.send(bytes(5), [file]);
    assert.equal(file.references, 3);
    assert.deepEqual(b.receive(100, there), { bytes: bytes(1, 2), fds: [] });
    const second = b.receive(1, there);
    assert.deepEqual(second, { bytes: bytes(3), fds: [4, 5] });
    assert.deepEqual(b.receive(100, there), { bytes: bytes(4), fds: [] });
    assert.deepEqual(b.receive(100, there), { bytes: bytes(5), fds: [6] });
    assert.equal(file.references, 3);
    there.closeAll();
    assert.equal(file.references, 0);
    assert.equal(file.gone, 1);
  });
  it('is bounded', () => {
    const { a, b, there } = pair(8);
    assert.equal(a.send(new Uint8Array(8)), 8);
    const file = new Plain('x');
    assert.equal(a.send(bytes(1), [file]), -EAGAIN);
    assert.equal(file.references, 0);
    b.receive(1, there);
    assert.equal(a.send(bytes(1), [file]), 1);
    assert.equal(a.send(new Uint8Array(0)), -EINVAL);
  });
  it('the end: what was sent can be read, then there is no more; nothing can be sent', () => {
    const { a, b, here, there, fdA } = pair();
    let woken = 0;
    b.onReadable = () => woken++;
    a.send(bytes(9));
    assert.equal(here.close(fdA), 0);
    assert.equal(woken, 2);
    assert.equal(b.send(bytes(1)), -EPIPE);
    assert.deepEqual(b.receive(10, there), { bytes: bytes(9), fds: [] });
    assert.deepEqual(b.receive(10, there), { bytes: new Uint8Array(0), fds: [] });
    assert.ok(b.readable);
  });
  it('files that nobody received are let go of with the end that they wait at', () => {
    const { a, b, there, fdB } = pair();
    const file = new Plain('x');
    a.send(bytes(1), [file]);
    there.close(fdB);
    assert.equal(file.references, 0);
    assert.equal(file.gone, 1);
    assert.equal(a.hungUp, true);
    assert.equal(b.references, 0);
  });
});

describe('mappings of a process', () => {
  it('hold the file beyond its descriptor; only memory that is there can be mapped', () => {
    const table = new FdTable();
    const maps = new Mappings();
    const file = memfd('log', 8192);
    const fd = table.install(file);
    assert.equal(maps.map(table, 99, 0, 1), -EBADF);
    assert.equal(maps.map(table, table.install(new Plain('x')), 0, 1), -ENODEV);
    for (const [offset, length] of [
      [0, 8193],
      [8192, 1],
      [-1, 2],
      [0, 0],
      [2 ** 53, 1],
    ] as const)
      assert.equal(maps.map(table, fd, offset, length), -EINVAL);
    const m = maps.map(table, fd, 4096, 4096);
    assert.ok(typeof m !== 'number');
    table.close(fd);
    assert.equal(file.references, 1);
    assert.equal(maps.count, 1);
    maps.unmap(m);
    maps.unmap(m);
    assert.equal(file.references, 0);
    assert.equal(maps.count, 0);
  });
});
