/** A front-end and a back-end on one socket, with their processes' descriptors, and what an end of the test looks at. */

import assert from 'node:assert/strict';
import { EventFd } from '../../../../../src/engine/eventfd.ts';
import { EventFdFile } from '../../../../../src/machine/kernel/eventfd-file.ts';
import { FdTable, type OpenFile } from '../../../../../src/machine/kernel/files.ts';
import { Mappings, memfd } from '../../../../../src/machine/kernel/memory-file.ts';
import { socketPair, type UnixSocket } from '../../../../../src/machine/kernel/unix-socket.ts';
import type { RingParams, StartParams } from '../../../../../src/machine/vhost/hand-over.ts';
import { type BackendOptions, VhostUserBackend } from '../../../../../src/machine/vhost/user/backend.ts';
import { type FrontendOptions, VhostUserFrontend } from '../../../../../src/machine/vhost/user/frontend.ts';
import { type Features, orFeatures } from '../../../../../src/machine/virtio/features.ts';
import { BASIC_NET_FEATURES } from '../../virtio/basic-features.ts';

export const RAM_BYTES = 1 << 20;
const UVA = 0x7f00_0000_0000;

export class Pair {
  readonly qemu = new FdTable();
  readonly ovs = new FdTable();
  readonly mappings = new Mappings();
  readonly frontend: VhostUserFrontend;
  backend: VhostUserBackend;
  readonly ram: number;
  readonly eventfds: { kick: number; call: number; err: number }[];
  /** Every file that the front-end's process made. */
  readonly files: OpenFile[] = [];
  /** The back-end's end of the socket, and the front-end's. */
  there!: UnixSocket;
  here!: UnixSocket;
  private readonly backendOptions: BackendOptions;
  private readonly before: number;

  constructor(backend: BackendOptions = {}, frontend: Partial<FrontendOptions> = {}, rings = 2) {
    this.backendOptions = backend;
    const open = (file: OpenFile): number => {
      this.files.push(file);
      return this.qemu.install(file);
    };
    const eventfd = (): number => open(new EventFdFile(new EventFd(0, '')));
    this.eventfds = Array.from({ length: rings }, () => ({ kick: eventfd(), call: eventfd(), err: eventfd() }));
    this.ram = open(memfd('ram', RAM_BYTES));
    this.before = this.qemu.open;
    this.frontend = new VhostUserFrontend({ table: this.qemu, ...frontend });
    this.backend = this.newBackend();
  }
  private newBackend(): VhostUserBackend {
    const { ovs, mappings } = this;
    return new VhostUserBackend({ vrings: this.eventfds.length, table: ovs, mappings, ...this.backendOptions });
  }
  /** A new back-end, and the sockets between the two. */
  plug(here?: UnixSocket, there?: UnixSocket): this {
    this.backend = this.newBackend();
    if (here === undefined || there === undefined) return this.plug(...socketPair());
    this.frontend.open(here);
    this.backend.attach(there);
    there.onReadable = () => this.backend.serve();
    this.there = there;
    this.here = here;
    return this;
  }
  connect(): number {
    this.plug();
    const r = this.frontend.connect(this.eventfds);
    if (r === 0) this.frontend.enableRings(this.eventfds.length, Math.min(2, this.eventfds.length));
    return r;
  }
  params(features: Features = BASIC_NET_FEATURES, bases: readonly number[] = []): StartParams {
    const half = RAM_BYTES / 2;
    const region = (at: number) => ({
      guest_phys_addr: at,
      memory_size: half,
      userspace_addr: UVA + at,
      mmap_offset: at,
      fd: this.ram,
    });
    const rings = this.eventfds.map((fds, i): RingParams => {
      const at = 0x8_1000 + i * 0x4000;
      return {
        size: 256,
        base: bases[i] ?? 0,
        desc_user_addr: UVA + at,
        avail_user_addr: UVA + at + 0x1000,
        used_user_addr: UVA + at + 0x2000,
        log_guest_addr: at + 0x2000,
        ...fds,
      };
    });
    return { features, regions: [region(0), region(half)], rings };
  }
  /** Connected and started; `more`: features beyond the basic ones. */
  start(more: Features = { lo: 0, hi: 0 }): this {
    assert.equal(this.connect(), 0);
    assert.equal(this.frontend.start(this.params(orFeatures(BASIC_NET_FEATURES, more))), 0);
    return this;
  }
  /** Both ends have gone: nothing that came over the connection is left, and QEMU has what it had before. */
  assertNothingLeft(): void {
    assert.equal(this.ovs.open, 0, 'descriptors of the back-end');
    assert.equal(this.mappings.count, 0, 'mappings of the back-end');
    assert.equal(this.qemu.open, this.before, 'descriptors of the front-end');
    for (const f of this.files) assert.equal(f.references, 1, `references of ${f.name}`);
    for (const s of [this.here, this.there]) assert.equal(s.references, 0, 'the sockets are closed');
  }
}
