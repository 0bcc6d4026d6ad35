/**
 * V8 settings of a process that runs worlds. The data path is a few large methods that call many small ones (an event is
 * recorded by a call of a dozen instructions); with the default inlining budget a third of those calls stay calls.
 * Measured on the presets at 64 B: 5 % (vhost-net) to 20 % (virtio-net) more frames a second. A larger budget makes the
 * first second longer (8000: 0.1 to 0.3 s more of compiling) and brings little more.
 */
import { setFlagsFromString } from 'node:v8';

/**
 * Call in the main thread, before threads that run worlds are started: settings are the process's, and V8 reads them in all its
 * threads. `gc` is for collect-garbage.ts.
 */
export function tuneEngine(): void {
  setFlagsFromString('--expose-gc');
  setFlagsFromString('--max-inlined-bytecode-size-cumulative=6000');
  setFlagsFromString('--max-inlined-bytecode-size-absolute=7000');
  setFlagsFromString('--max-inlined-bytecode-size=1200');
}
