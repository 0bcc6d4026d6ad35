/** A query parameter that is a list of names with commas. */
import { Type } from 'typebox';

export function commaNames(description: string, example: string) {
  return Type.String({ maxLength: 4000, description, examples: [example] });
}
