/**
 * A translator that stands in front of another one, which can be exchanged: rings keep it while their device gets another
 * back-end, or while QEMU carries the frames in its place.
 */
import { TRANSLATION_MISSING, type Translator } from '../memory/address-space.ts';

export class TranslatorSwitch implements Translator {
  private target: Translator | null = null;
  private count = 0;
  private seen = 0;

  /** Whoever translates from now on; null: nobody, and everything is missing. */
  to(target: Translator | null): void {
    this.target = target;
    this.seen = target === null ? 0 : target.generation;
    this.count++;
  }
  get generation(): number {
    const { target } = this;
    if (target !== null && target.generation !== this.seen) {
      this.seen = target.generation;
      this.count++;
    }
    return this.count;
  }
  translate(address: number, length: number, access: number): number {
    return this.target === null ? TRANSLATION_MISSING : this.target.translate(address, length, access);
  }
}
