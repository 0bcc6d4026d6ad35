/** Locks of clients (RFC 7047 §4.1.8): by name, one owner, the others wait in order. */

/** One session's wish for one lock. */
export interface Waiter<S> {
  readonly session: S;
  readonly name: string;
  /** It came by `steal`. */
  readonly stealing: boolean;
}

export class Locks<S> {
  /** Name -> who has it, and who waits behind. */
  private readonly queues = new Map<string, Waiter<S>[]>();

  isOwner(waiter: Waiter<S> | undefined): boolean {
    return waiter !== undefined && this.queues.get(waiter.name)?.[0] === waiter;
  }
  /** Joins the line; who steals goes to its head. `victim`: whose lock it was. */
  join(session: S, name: string, stealing: boolean): { readonly waiter: Waiter<S>; readonly victim: S | null } {
    const queue = this.queues.get(name) ?? [];
    this.queues.set(name, queue);
    const waiter: Waiter<S> = { session, name, stealing };
    if (!stealing) {
      queue.push(waiter);
      return { waiter, victim: null };
    }
    const victim = queue[0] ?? null;
    // Who got it by waiting gets it back; who stole it does not.
    if (victim?.stealing === true) queue.shift();
    queue.unshift(waiter);
    return { waiter, victim: victim?.session ?? null };
  }
  /** Leaves the line. Returns who owns the lock then, as the real server says it: also where that has not changed. */
  leave(waiter: Waiter<S>): S | null {
    const queue = this.queues.get(waiter.name);
    const at = queue?.indexOf(waiter) ?? -1;
    if (queue === undefined || at < 0) return null;
    queue.splice(at, 1);
    if (queue.length === 0) this.queues.delete(waiter.name);
    return queue[0]?.session ?? null;
  }
}
