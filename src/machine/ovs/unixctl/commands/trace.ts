/** `ofproto/trace` and `ofproto/trace-packet-out`: nothing is learned, counted or sent. */
import { TraceError, traceCommand } from '../../ofproto/trace-command.ts';
import { ANY_ARGS, type Command, type Ctl, CtlError, command } from '../command.ts';

function trace(args: readonly string[], { host, door }: Ctl, actions: boolean): string {
  try {
    return traceCommand(
      host.datapaths.map(({ backer }) => backer),
      args,
      actions,
      door.now(),
    );
  } catch (error) {
    if (error instanceof TraceError) throw new CtlError(error.message);
    throw error;
  }
}

const FRAME = '{[dp_name] odp_flow | bridge br_flow} [OPTIONS...] [-generate|packet]';
export const TRACE: readonly Command[] = [
  command('ofproto/trace', FRAME, 1, ANY_ARGS, (args, ctl) => trace(args, ctl, false)),
  command('ofproto/trace-packet-out', `[-consistent] ${FRAME} actions`, 2, ANY_ARGS, (args, ctl) =>
    trace(args, ctl, true),
  ),
];
