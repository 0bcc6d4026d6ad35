/** The output action and its reserved ports (ovs ofproto-dpif-xlate.c, xlate_output_action()). */
import {
  OFPP_ALL,
  OFPP_CONTROLLER,
  OFPP_FLOOD,
  OFPP_IN_PORT,
  OFPP_NONE,
  OFPP_NORMAL,
  OFPP_TABLE,
} from '../../flow/actions.ts';
import { W_IN_PORT } from '../../flow/flow.ts';
import { OFPR_ACTION, OFPR_ACTION_SET, OFPR_GROUP, OFPR_PACKET_OUT } from '../packet-in.ts';
import type { XlateContext } from './context.ts';
import { controllerAction } from './freeze.ts';
import { xlateNormal } from './normal.ts';
import { composeOutput, floodPackets } from './output.ts';
import { tableAction } from './tables.ts';

/** xlate_output_action(). */
export function outputAction(
  context: XlateContext,
  port: number,
  maxLen: number,
  mayPacketIn: boolean,
  last: boolean,
  truncate: boolean,
  bucket: boolean,
): void {
  const inPort = context.flow.w[W_IN_PORT]! >>> 0;
  switch (port) {
    case OFPP_IN_PORT:
      composeOutput(context, inPort, last, true, truncate);
      break;
    case OFPP_TABLE:
      tableAction(context, inPort, 0, mayPacketIn, false, false, null);
      break;
    case OFPP_NORMAL:
      xlateNormal(context);
      break;
    case OFPP_FLOOD:
      floodPackets(context, false, last);
      break;
    case OFPP_ALL:
      floodPackets(context, true, last);
      break;
    case OFPP_CONTROLLER: {
      const reason = context.inPacketOut
        ? OFPR_PACKET_OUT
        : bucket
          ? OFPR_GROUP
          : context.inActionSet
            ? OFPR_ACTION_SET
            : OFPR_ACTION;
      controllerAction(context, maxLen, reason, 0, null, null);
      break;
    }
    case OFPP_NONE:
      break;
    default:
      if (port !== inPort) composeOutput(context, port, last, true, truncate);
      else context.report('warn', 'skipping output to input port');
  }
}

/** xlate_output_trunc_action(). */
export function outputTrunc(context: XlateContext, port: number, maxLen: number, last: boolean, bucket: boolean): void {
  const names: Record<number, string> = {
    [OFPP_TABLE]: 'TABLE',
    [OFPP_NORMAL]: 'NORMAL',
    [OFPP_FLOOD]: 'FLOOD',
    [OFPP_ALL]: 'ALL',
    [OFPP_CONTROLLER]: 'CONTROLLER',
    [OFPP_NONE]: 'ANY',
  };
  const inPort = context.flow.w[W_IN_PORT]! >>> 0;
  if (names[port] !== undefined) context.report('warn', `output_trunc does not support port: ${names[port]}`);
  else if (port === inPort) context.report('warn', 'skipping output to input port');
  else {
    const out = context.bridge.ports.get(port === OFPP_IN_PORT ? inPort : port);
    if (out === undefined || out.dpPort === null) {
      context.report('error', `output_trunc does not support patch port ${port}`);
      return;
    }
    context.put({ type: 'trunc', maxLen });
    outputAction(context, port, 0, false, last, true, bucket);
  }
}
