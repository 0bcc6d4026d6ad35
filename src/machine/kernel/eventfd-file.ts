/**
 * An eventfd as an open file: what a descriptor of it leads to, so that ioctls which name one by number (KVM_IRQFD,
 * VHOST_SET_VRING_KICK) can check it. linux fs/eventfd.c.
 */
import type { EventFd } from '../../engine/eventfd.ts';
import { EBADF, EINVAL } from './errno.ts';
import { type FdTable, OpenFile } from './files.ts';

export class EventFdFile extends OpenFile {
  declare readonly eventfd: EventFd;

  constructor(eventfd: EventFd) {
    super('anon_inode:[eventfd]');
    this.eventfd = eventfd;
  }
}

/** eventfd2(2): a descriptor of the process for `eventfd`, which then carries its number. */
export function openEventFd(fds: FdTable, eventfd: EventFd): number {
  eventfd.fd = fds.install(new EventFdFile(eventfd));
  return eventfd.fd;
}

/** linux eventfd_ctx_fdget(): the eventfd behind a descriptor, -EBADF where none is open, -EINVAL where it is another file. */
export function eventFdOf(fds: FdTable, fd: number): EventFd | number {
  const file = fds.file(fd);
  if (file === undefined) return -EBADF;
  return file instanceof EventFdFile ? file.eventfd : -EINVAL;
}
