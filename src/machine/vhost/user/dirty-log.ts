/**
 * The log of a vhost-user back-end: in memory that the front-end shares (QEMU docs/interop/vhost-user.rst, "Migration").
 */
import type { Mapping } from '../../kernel/memory-file.ts';
import { DirtyBits } from '../dirty-bits.ts';

export class DirtyLog extends DirtyBits {
  readonly mapping: Mapping;

  /** `mapping`: of a file whose bytes are at hand. `offset`: where in the mapping the log starts; it goes on to its end. */
  constructor(mapping: Mapping, offset: number) {
    const bytes = mapping.file.bytes ?? new Uint8Array(0);
    super(bytes.subarray(mapping.offset + offset, mapping.offset + mapping.length));
    this.mapping = mapping;
  }
}
