#include "bitloom_json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 16 };

static const char *blanks(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) ++p;
  return p;
}

static const char *skip_string(const char *p, const char *end) {
  for (++p; p < end && *p != '"'; ++p) {
    if ((unsigned char)*p < 0x20) return NULL;
    if (*p == '\\' && ++p == end) return NULL;
  }
  return p < end ? p + 1 : NULL;
}

static bool digit(char c) { return c >= '0' && c <= '9'; }

static const char *digits(const char *p, const char *end) {
  const char *first = p;
  while (p < end && digit(*p)) ++p;
  return p == first ? NULL : p;
}

static const char *skip_number(const char *p, const char *end) {
  if (p < end && *p == '-') ++p;
  if ((p = digits(p, end)) == NULL) return NULL;
  if (p < end && *p == '.' && (p = digits(p + 1, end)) == NULL) return NULL;
  if (p < end && (*p == 'e' || *p == 'E')) {
    ++p;
    if (p < end && (*p == '+' || *p == '-')) ++p;
    p = digits(p, end);
  }
  return p;
}

static const char *skip_word(const char *p, const char *end, const char *word) {
  const size_t length = strlen(word);
  return (size_t)(end - p) >= length && memcmp(p, word, length) == 0 ? p + length : NULL;
}

/* The character behind the value at p, or NULL when it is malformed. */
static const char *skip_value(const char *p, const char *end, int depth) {
  if (p == end || depth > MAX_DEPTH) return NULL;
  if (*p == '"') return skip_string(p, end);
  if (*p == 't') return skip_word(p, end, "true");
  if (*p == 'f') return skip_word(p, end, "false");
  if (*p == 'n') return skip_word(p, end, "null");
  if (*p != '{' && *p != '[') return skip_number(p, end);
  const bool object = *p == '{';
  const char close = object ? '}' : ']';
  p = blanks(p + 1, end);
  if (p < end && *p == close) return p + 1;
  for (;;) {
    if (object) {
      if (p == end || *p != '"' || (p = skip_string(p, end)) == NULL) return NULL;
      p = blanks(p, end);
      if (p == end || *p != ':') return NULL;
      p = blanks(p + 1, end);
    }
    if ((p = skip_value(p, end, depth + 1)) == NULL) return NULL;
    p = blanks(p, end);
    if (p == end) return NULL;
    if (*p == close) return p + 1;
    if (*p != ',') return NULL;
    p = blanks(p + 1, end);
  }
}

bool bitloom_json_parse(const char *text, size_t bytes, struct bitloom_json *root) {
  const char *end = text + bytes;
  root->at = blanks(text, end);
  root->end = skip_value(root->at, end, 0);
  return root->end != NULL && blanks(root->end, end) == end;
}

bool bitloom_json_member(struct bitloom_json object, const char *key, struct bitloom_json *value) {
  if (*object.at != '{') return false;
  const size_t length = strlen(key);
  const char *p = blanks(object.at + 1, object.end);
  while (*p != '}') {
    const char *name = p + 1;
    p = skip_string(p, object.end);
    const bool found = (size_t)(p - 1 - name) == length && memcmp(name, key, length) == 0;
    p = blanks(p, object.end);
    value->at = blanks(p + 1, object.end);
    value->end = p = skip_value(value->at, object.end, 0);
    if (found) return true;
    p = blanks(p, object.end);
    if (*p == ',') p = blanks(p + 1, object.end);
  }
  return false;
}

bool bitloom_json_item(struct bitloom_json array, const char **step, struct bitloom_json *value) {
  if (*array.at != '[') return false;
  const char *p = blanks(*step == NULL ? array.at + 1 : *step, array.end);
  if (*p == ',') p = blanks(p + 1, array.end);
  if (*p == ']') return false;
  value->at = p;
  value->end = *step = skip_value(p, array.end, 0);
  return true;
}

bool bitloom_json_integer(struct bitloom_json value, int64_t low, int64_t high, int64_t *number) {
  const char *p = value.at;
  const bool negative = *p == '-';
  uint64_t size = 0;
  if (negative) ++p;
  if (p == value.end || value.end - p > 18) return false;
  for (; p < value.end; ++p) {
    if (!digit(*p)) return false;
    size = size * 10 + (uint64_t)(*p - '0');
  }
  *number = negative ? -(int64_t)size : (int64_t)size;
  return low <= *number && *number <= high;
}

bool bitloom_json_bool(struct bitloom_json value, bool *flag) {
  *flag = *value.at == 't';
  return *value.at == 't' || *value.at == 'f';
}

bool bitloom_json_number(struct bitloom_json value, double *number) {
  char text[48];
  const size_t length = (size_t)(value.end - value.at);
  if ((*value.at != '-' && !digit(*value.at)) || length >= sizeof text) return false;
  memcpy(text, value.at, length);
  text[length] = '\0';
  *number = strtod(text, NULL);
  return true;
}

bool bitloom_json_string(struct bitloom_json value, char *text, size_t size) {
  if (*value.at != '"') return false;
  size_t length = (size_t)(value.end - value.at) - 2;
  if (length >= size) length = size - 1;
  memcpy(text, value.at + 1, length);
  text[length] = '\0';
  return true;
}
