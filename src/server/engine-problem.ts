/** An engine's refusal as the problem that the API answers with. */
import type { EngineFault } from './engine-thread.ts';
import { invalid, Problem } from './problem.ts';

/** `parameters`: the request's query, whose faults are told as such. */
export function engineProblem(fault: EngineFault, parameters: unknown = {}): Problem {
  const name = fault.field?.slice(1) ?? '';
  if (typeof parameters === 'object' && parameters !== null && Object.hasOwn(parameters, name)) {
    const errors = [{ pointer: `querystring/${name}`, detail: fault.message }];
    return new Problem('RINGSIDE_E_REQUEST', fault.message, { errors });
  }
  switch (fault.code) {
    case 'NOT_FOUND':
      // A name in the body that means nothing is a fault of the body; a name in the path is a missing resource.
      return fault.field === undefined
        ? new Problem('RINGSIDE_E_NOT_FOUND', fault.message)
        : invalid(fault.field, fault.message);
    case 'INVALID':
      return invalid(fault.field ?? '', fault.message);
    case 'CONFLICT':
      return fault.field === undefined
        ? new Problem('RINGSIDE_E_CONFLICT', fault.message)
        : new Problem('RINGSIDE_E_CONFLICT', fault.message, {
            errors: [{ pointer: fault.field, detail: fault.message }],
          });
    case 'FORBIDDEN':
      return new Problem('RINGSIDE_E_FORBIDDEN', fault.message);
    case 'FAILED':
    case 'ENGINE_GONE':
      return new Problem('RINGSIDE_E_WORLD_FAILED', fault.message);
  }
}
