/** The parts that the schema of topology documents is made of: fields with a description and a default. */
import { type TSchema, Type } from 'typebox';
import { NAME_PATTERN, SIZE_PATTERN } from './units.ts';

export function name(description: string, example: string): ReturnType<typeof Type.String> {
  return Type.String({ pattern: NAME_PATTERN, description, examples: [example] });
}
export function text(pattern: string, description: string, options: { default?: string; examples: string[] }) {
  return Type.Optional(Type.String({ pattern, description, ...options }));
}
/** `byDefault` false: the default depends on other fields. */
export function size(description: string, value: string, byDefault = true) {
  return Type.Optional(
    Type.Union([Type.String({ pattern: SIZE_PATTERN }), Type.Integer({ minimum: 0 })], {
      description: description + ' With a unit (`"16MiB"`, `"2GiB"`), or a whole number of bytes.',
      ...(byDefault ? { default: value } : {}),
      examples: [value],
    }),
  );
}
export function integer(description: string, value: number, minimum: number, maximum: number) {
  return Type.Optional(Type.Integer({ description, default: value, minimum, maximum }));
}
/** An integer without a default. */
export function integerOrNone(description: string, minimum: number, maximum: number, example: number) {
  return Type.Optional(Type.Integer({ description, minimum, maximum, examples: [example] }));
}
export function choice<const V extends string[]>(description: string, value: V[number], values: readonly [...V]) {
  return Type.Optional(Type.Enum(values, { type: 'string', description, default: value }));
}
export function object<const P extends Record<string, TSchema>>(
  properties: P,
  options: { description: string; default?: object; $id?: string; examples?: object[] },
) {
  return Type.Object(properties, { additionalProperties: false, ...options });
}
/** An object that may be left out, as all its fields may. */
export function section<const P extends Record<string, TSchema>>(
  properties: P,
  options: { description: string; examples?: object[] },
) {
  return Type.Optional(object(properties, { default: {}, ...options }));
}
export function flag(description: string, byDefault = true) {
  return Type.Optional(Type.Boolean({ description, default: byDefault }));
}
/** True or false, with a default that depends on other fields. */
export function unset(description: string) {
  return Type.Optional(Type.Boolean({ description }));
}
/** `most` bounds the work on a hostile document; what a server allows is a setting (Limits) and lower. */
export function list<T extends TSchema>(
  items: T,
  description: string,
  most: number,
  options: { default?: object[] } = {},
) {
  return Type.Optional(Type.Array(items, { description, default: [], maxItems: most, ...options }));
}
