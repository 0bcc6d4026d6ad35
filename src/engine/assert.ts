/** Assertions are for our own mistakes, never for what a guest, a peer or a user can cause. */
export class AssertionFailed extends Error {
  override readonly name = 'AssertionFailed';
}

/** Throws AssertionFailed with `why` when `condition` is false: fails the world that runs, and only that world. */
export function assert(condition: boolean, why: string): asserts condition {
  if (!condition) throw new AssertionFailed(why);
}
