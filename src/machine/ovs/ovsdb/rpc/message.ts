/** JSON-RPC messages (JSON-RPC 1.0, as lib/jsonrpc.c reads and writes them). */
import { isObject, type Json } from '../json.ts';
import { BadJson } from './framing.ts';

export interface Request {
  /** null: a notification, which has no reply. */
  readonly id: Json;
  readonly method: string;
  readonly params: Json[];
}
export interface Reply {
  readonly id: Json;
  readonly result: Json;
  readonly error: Json;
}

const MEMBERS = new Set(['id', 'method', 'params', 'result', 'error']);

export const isRequest = (message: Request | Reply): message is Request => 'method' in message;

/** Reads a message. A member that is null counts as missing. Throws BadJson for what is none. */
export function readMessage(json: Json): Request | Reply {
  if (!isObject(json)) throw new BadJson('message is not a JSON object');
  for (const name of Object.keys(json)) {
    if (!MEMBERS.has(name)) throw new BadJson(`message has unexpected member "${name}"`);
  }
  const { id = null, method = null, params = null, result = null, error = null } = json;
  if (method !== null && typeof method !== 'string') throw new BadJson('method is not a JSON string');
  if (params !== null && !Array.isArray(params)) throw new BadJson('"params" must be JSON array');
  if (result !== null || error !== null) {
    if (method !== null || params !== null || id === null || (result !== null && error !== null)) {
      throw new BadJson('a reply has an id and a result or an error, and nothing else');
    }
    return { id, result, error };
  }
  if (method === null || params === null) throw new BadJson('a request has a method and params');
  return { id, method, params };
}
