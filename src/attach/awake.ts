/**
 * Keeps the thread awake for a moment after something came in. Clients of Open vSwitch wait for a barrier or a reply before they send the
 * next message; a thread that has gone to sleep meanwhile is woken tens of microseconds later each time.
 */

/** About the time in which a client on the same machine answers, ms. */
const AWAKE_MS = 0.06;

let until = 0;
let awake = false;

/** Looks for input without sleeping until AWAKE_MS from now. */
export function stayAwake(): void {
  until = performance.now() + AWAKE_MS;
  if (awake) return;
  awake = true;
  setImmediate(look);
}
function look(): void {
  if (performance.now() < until) setImmediate(look);
  else awake = false;
}
