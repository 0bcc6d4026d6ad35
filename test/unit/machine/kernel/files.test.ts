import { describe, expect, it } from 'vitest';
import { EBADF, ENOTTY } from '../../../../src/machine/kernel/errno.ts';
import { FdTable, OpenFile } from '../../../../src/machine/kernel/files.ts';

class Recorded extends OpenFile {
  closed = 0;
  protected override released(): void {
    this.closed++;
  }
}

describe('open files and descriptors', () => {
  it('gives out the lowest free number, from 3 on', () => {
    const table = new FdTable();
    const [a, b, c] = ['a', 'b', 'c'].map((name) => table.install(new Recorded(name)));
    expect([a, b, c]).toEqual([3, 4, 5]);
    expect(table.close(4)).toBe(0);
    expect(table.install(new Recorded('d'))).toBe(4);
    expect([...table.entries()].map(([fd, { name }]) => `${fd} ${name}`)).toEqual(['3 a', '4 d', '5 c']);
  });
  it('keeps a file open until its last descriptor is closed, whichever process has it', () => {
    const qemu = new FdTable();
    const ovs = new FdTable();
    const file = new Recorded('memfd:ram');
    const fd = qemu.install(file);
    ovs.install(file);
    qemu.close(fd);
    expect(file.closed).toBe(0);
    ovs.closeAll();
    expect(file.closed).toBe(1);
    expect(qemu.open + ovs.open).toBe(0);
  });
  it('answers EBADF for what is not open and ENOTTY for what a file does not know', () => {
    const table = new FdTable();
    expect(table.close(3)).toBe(-EBADF);
    expect(table.ioctl(3, 1)).toBe(-EBADF);
    expect(table.ioctl(-1, 1)).toBe(-EBADF);
    expect(table.ioctl(table.install(new Recorded('a')), 1)).toBe(-ENOTTY);
  });
});
