/** Arguments of `ofproto/trace` and `ofproto/trace-packet-out` (ovs ofproto/ofproto-dpif-trace.c, parse_flow_and_packet()). */
import { type Flow, W_IN_PORT } from '../flow/flow.ts';
import { Match } from '../flow/match.ts';
import { parseActions } from '../flow/text/action-text.ts';
import { keyValues } from '../flow/text/key-values.ts';
import { parseMatch } from '../flow/text/match-text.ts';
import { CT_STATES, FlowTextError } from '../flow/text/values.ts';
import type { Backer } from './backer.ts';
import { OdpTextError, parseOdpFlow } from './odp-flow-text.ts';
import type { Ofproto } from './ofproto-dpif.ts';
import { portNames, traceText } from './trace.ts';

/** What is wrong with the arguments. */
export class TraceError extends Error {}

interface Parsed {
  readonly bridge: Ofproto;
  readonly flow: Flow;
  readonly frame: boolean;
  readonly ctNext: readonly number[];
  readonly names: boolean;
}

/**
 * Runs `ofproto/trace` (`actions` false) or `ofproto/trace-packet-out`. Throws TraceError.
 */
export function traceCommand(
  backers: readonly Backer[],
  args: readonly string[],
  actions: boolean,
  now: number,
): string {
  if (!actions) return traceText({ ...parse(backers, args), actions: null, now });
  const list = args.at(-1) ?? '';
  const parsed = parse(backers, args.slice(0, -1));
  try {
    return traceText({ ...parsed, actions: parseActions(list, portNames(parsed.bridge), false), now });
  } catch (error) {
    if (error instanceof FlowTextError) throw new TraceError(error.message);
    throw error;
  }
}

function parse(backers: readonly Backer[], args: readonly string[]): Parsed {
  const rest: string[] = [];
  const ctNext: number[] = [];
  let names = false;
  let generate = false;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    const value = (): string => {
      const next = args[++i];
      if (next === undefined) throw new TraceError(`Missing argument for option ${arg}`);
      return next;
    };
    if (arg === '-generate' || arg === '--generate') generate = true;
    else if (arg === '--l7' || arg === '--l7-len') value();
    else if (arg === '-consistent' || arg === '--consistent') continue;
    else if (arg === '-names' || arg === '--names') names = true;
    else if (arg === '--ct-next') ctNext.push(ctState(value()));
    else if (arg.startsWith('-')) throw new TraceError(`${arg}: unknown option`);
    else if (rest.length >= 3) throw new TraceError('too many arguments');
    else rest.push(arg);
  }
  let frame: Uint8Array | null = null;
  if (!generate && rest.length > 1) {
    frame = frameOf(rest.at(-1)!);
    if (frame !== null) rest.pop();
    else if (rest.length > 2) throw new TraceError('Trailing garbage in packet data');
  }
  if (rest.length === 0 || rest.length > 2) throw new TraceError('Syntax error');
  const { bridge, flow } = flowOf(backers, rest);
  if (frame === null) return { bridge, flow, frame: generate, ctNext, names };
  const inPort = flow.w[W_IN_PORT]! >>> 0;
  return { bridge, flow: bridge.backer.flowOf(frame, flow, inPort), frame: true, ctNext, names };
}

/** `odp_flow`, `dpname odp_flow` or `bridge br_flow`. */
function flowOf(
  backers: readonly Backer[],
  args: readonly string[],
): { readonly bridge: Ofproto; readonly flow: Flow } {
  const text = args.at(-1)!;
  const name = args.length === 2 ? args[0]! : null;
  const named =
    name === null
      ? undefined
      : backers.find(({ dpif }) => dpif.name === name || dpif.type === name.replace(/^ovs-/, ''));
  const backer = name === null && backers.length === 1 ? backers[0] : named;
  try {
    return fromDatapath(backer, text);
  } catch (error) {
    if (!(error instanceof OdpTextError)) throw error;
    if (name === null) throw new TraceError(`${error.message} (or the bridge name was omitted)`);
  }
  const bridge = backers.map((one) => one.bridges.get(name)).find((found) => found !== undefined);
  if (bridge === undefined) throw new TraceError(`${name}: unknown bridge`);
  const match = new Match();
  try {
    parseMatch(keyValues(text), match, portNames(bridge));
  } catch (error) {
    if (error instanceof FlowTextError) throw new TraceError(`Bad openflow flow syntax: ${error.message}`);
    throw error;
  }
  return { bridge, flow: match.flow };
}
function fromDatapath(backer: Backer | undefined, text: string): { readonly bridge: Ofproto; readonly flow: Flow } {
  const key = parseOdpFlow(text, (name) => backer?.portNamed(name)?.dpPort ?? null);
  if (backer === undefined) throw new TraceError('Cannot find the datapath');
  const start = backer.startOf(key.w);
  if (start === null) throw new TraceError(`no OpenFlow port for datapath port ${key.w[W_IN_PORT]! >>> 0}`);
  return start;
}
/** A frame of at least an Ethernet header in hexadecimal digits; null: it is none. */
function frameOf(text: string): Uint8Array | null {
  const digits = text.replace(/\s/g, '');
  if (!/^(?:[0-9a-fA-F]{2}){14,}$/.test(digits)) return null;
  return Uint8Array.from(digits.match(/../g)!, (byte) => Number.parseInt(byte, 16));
}
function ctState(text: string): number {
  let state = 0;
  for (const word of text.split(/[|,\s]+/)) {
    const bit = (CT_STATES as readonly string[]).indexOf(word);
    if (bit < 0) throw new TraceError(`${word}: unknown connection tracking state flag`);
    state |= 1 << bit;
  }
  return state;
}
