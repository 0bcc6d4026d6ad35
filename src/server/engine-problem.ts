/** An engine's refusal as the problem that the API answers with. */
import type { EngineFault } from './engine-thread.ts';
import { invalid, Problem } from './problem.ts';

export function engineProblem(fault: EngineFault): Problem {
  switch (fault.code) {
    case 'NOT_FOUND':
      // A name in the body that means nothing is a fault of the body; a name in the path is a missing resource.
      return fault.field === undefined
        ? new Problem('RINGSIDE_E_NOT_FOUND', fault.message)
        : invalid(fault.field, fault.message);
    case 'INVALID':
      return invalid(fault.field ?? '', fault.message);
    case 'CONFLICT':
      return new Problem('RINGSIDE_E_CONFLICT', fault.message);
    case 'FAILED':
    case 'ENGINE_GONE':
      return new Problem('RINGSIDE_E_WORLD_FAILED', fault.message);
  }
}
