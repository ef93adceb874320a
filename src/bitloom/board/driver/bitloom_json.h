/* A small JSON reader without allocation: a value is a piece of the text, checked as a whole before it is walked. */
#ifndef BITLOOM_JSON_H
#define BITLOOM_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct bitloom_json {
  const char *at, *end; /* the value's first character, and the one behind its last */
};

/* True for a well-formed text of one value, nested at most 16 deep. */
bool bitloom_json_parse(const char *text, size_t bytes, struct bitloom_json *root);
/* The value of a key of an object; false when it is absent. */
bool bitloom_json_member(struct bitloom_json object, const char *key, struct bitloom_json *value);
/* Walks an array: start with *step = NULL; false behind the last item. */
bool bitloom_json_item(struct bitloom_json array, const char **step, struct bitloom_json *value);
/* An integer in [low, high]. */
bool bitloom_json_integer(struct bitloom_json value, int64_t low, int64_t high, int64_t *number);
bool bitloom_json_bool(struct bitloom_json value, bool *flag);
bool bitloom_json_number(struct bitloom_json value, double *number);
/* The characters between the quotes, escapes left as they are, cut to size - 1. */
bool bitloom_json_string(struct bitloom_json value, char *text, size_t size);

#ifdef __cplusplus
}
#endif

#endif
