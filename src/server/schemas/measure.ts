/** Measurements of experiments, in the API document. */
import { Measure as measure } from '../../lab/job/measure.ts';
import { name } from './reference.ts';

export const Measure = name(measure);
