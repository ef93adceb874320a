// The dummy of these tests needs no package; the file list demands one.
package bl_pkg;
endpackage
