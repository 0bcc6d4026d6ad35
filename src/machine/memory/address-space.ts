/**
 * How a party reaches guest memory: a short list of regions, each a range of its addresses and where that range lies in
 * the arena. KVM's memory slots, QEMU's own mapping, vhost's memory table and a vhost-user back-end's mmaps are all one of
 * these. Addresses come from guests and peers, so every translation is bounds-checked.
 */

/** What an access wants to do with the bytes: VHOST_ACCESS_RO, VHOST_ACCESS_WO, and both. */
export const ACCESS_READ = 1;
export const ACCESS_WRITE = 2;
export const ACCESS_BOTH = 3;
/** translate(): the translation has been asked for and is not here yet. Only from a Translator. */
export const TRANSLATION_MISSING = -2;

/** Translates where addresses are I/O virtual ones: a device IOTLB, or QEMU with the guest's tables. */
export interface Translator {
  /** Arena offset of `length` bytes at `address`, -1 where there is none, or TRANSLATION_MISSING. */
  translate(address: number, length: number, access: number): number;
  /** Changes whenever a translation that was given may not be given any more. */
  readonly generation: number;
}

export class AddressSpace {
  /** Set where addresses are I/O virtual ones: it translates all of them. */
  translator: Translator | null = null;
  private readonly start: number[] = [];
  private readonly end: number[] = [];
  private readonly delta: number[] = [];
  // the region of the last hit, as plain fields: almost every access falls into one region
  // (before the first hit a range that holds nothing, not even no bytes at address 0)
  private hotStart = 1;
  private hotEnd = 0;
  private hotDelta = 0;

  /** Maps [address, address + size) to the arena offsets that begin at `offset`. */
  map(address: number, size: number, offset: number): void {
    this.start.push(address);
    this.end.push(address + size);
    this.delta.push(offset - address);
  }

  /** Arena offset of `length` bytes at `address`; -1 when they do not all lie in one region. */
  translate(address: number, length: number, access = ACCESS_READ): number {
    if (address >= this.hotStart && address + length <= this.hotEnd) return address + this.hotDelta;
    return this.search(address, length, access);
  }

  /** From now on `translator` is asked for every address; null: the regions are. */
  translateBy(translator: Translator | null): void {
    this.translator = translator;
    this.hotStart = 1;
    this.hotEnd = 0;
  }
  /** The same by the regions alone, whoever translates. */
  inRegions(address: number, length: number): number {
    for (let i = 0; i < this.start.length; i++)
      if (address >= this.start[i]! && address + length <= this.end[i]!) return address + this.delta[i]!;
    return -1;
  }

  private search(address: number, length: number, access: number): number {
    if (this.translator !== null) return this.translator.translate(address, length, access);
    for (let i = 0; i < this.start.length; i++) {
      if (address >= this.start[i]! && address + length <= this.end[i]!) {
        this.hotStart = this.start[i]!;
        this.hotEnd = this.end[i]!;
        this.hotDelta = this.delta[i]!;
        return address + this.hotDelta;
      }
    }
    return -1;
  }
}
