/**
 * Every problem that the API can answer, one row each: the stable code that programs test for, the HTTP status and the
 * title. `type` of a problem document is `/docs/problems#<code>` in the API's own address space.
 */
interface ProblemKind {
  readonly status: number;
  readonly title: string;
}

export const PROBLEMS = {
  RINGSIDE_E_SYNTAX: { status: 400, title: 'The body cannot be parsed' },
  RINGSIDE_E_REQUEST: { status: 400, title: 'The request is not valid' },
  RINGSIDE_E_UNAUTHORIZED: { status: 401, title: 'A bearer token is needed' },
  RINGSIDE_E_ORIGIN: { status: 403, title: 'Requests from other origins are refused' },
  RINGSIDE_E_FORBIDDEN: { status: 403, title: 'The topology does not allow this' },
  RINGSIDE_E_NOT_FOUND: { status: 404, title: 'There is no such resource' },
  RINGSIDE_E_METHOD: { status: 405, title: 'The resource does not have this method' },
  RINGSIDE_E_NOT_ACCEPTABLE: { status: 406, title: 'None of the accepted media types can be answered' },
  RINGSIDE_E_EXISTS: { status: 409, title: 'The name is taken' },
  RINGSIDE_E_CONFLICT: { status: 409, title: 'The request does not fit the state of the resource' },
  RINGSIDE_E_WORLD_FAILED: { status: 409, title: 'The topology has failed' },
  RINGSIDE_E_GONE: { status: 410, title: 'The resource is no longer held' },
  RINGSIDE_E_PRECONDITION: { status: 412, title: 'The precondition does not hold' },
  RINGSIDE_E_TOO_LARGE: { status: 413, title: 'The body is too large' },
  RINGSIDE_E_URI_TOO_LONG: { status: 414, title: 'The address is too long' },
  RINGSIDE_E_MEDIA_TYPE: { status: 415, title: 'The media type of the body is not taken here' },
  RINGSIDE_E_RANGE: { status: 416, title: 'The range lies outside of the file' },
  RINGSIDE_E_HOST: { status: 421, title: 'This server does not answer for the host named in the request' },
  RINGSIDE_E_VALIDATION: { status: 422, title: 'The body is not valid' },
  RINGSIDE_E_LIMIT: { status: 422, title: 'A limit of this server is exceeded' },
  RINGSIDE_E_UPGRADE: { status: 426, title: 'The protocol must be changed' },
  RINGSIDE_E_TOO_MANY: { status: 429, title: 'Too many at a time' },
  RINGSIDE_E_HEADERS_TOO_LARGE: { status: 431, title: 'The header fields are too large' },
  RINGSIDE_E_INTERNAL: { status: 500, title: 'A fault of this server' },
  RINGSIDE_E_UNAVAILABLE: { status: 503, title: 'The server is starting or stopping' },
  RINGSIDE_E_STORAGE: { status: 507, title: 'The document cannot be stored' },
} as const satisfies Record<string, ProblemKind>;

export type ProblemCode = keyof typeof PROBLEMS;
