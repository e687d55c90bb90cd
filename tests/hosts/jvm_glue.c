/* SPDX-License-Identifier: Apache-2.0 */

/* What tests/hosts/JvmHost.java calls of netrunner.h, by JNI. */

#include <jni.h>
#include <netrunner.h>
#include <poll.h>

/* The program's name and arguments are C strings that live long enough. */
JNIEXPORT jlong JNICALL Java_JvmHost_spawn(JNIEnv *env, jclass unused, jobjectArray words)
{
	enum { MAX = 16 };
	const char *argv[MAX + 1] = { 0 };
	jstring strings[MAX];
	jsize n = (*env)->GetArrayLength(env, words);

	(void)unused;
	if (n > MAX)
		return -7;
	for (jsize i = 0; i < n; i++) {
		strings[i] = (*env)->GetObjectArrayElement(env, words, i);
		argv[i] = (*env)->GetStringUTFChars(env, strings[i], NULL);
	}
	nr_options o = { .size = sizeof o, .argv = argv };
	nr_proc p = nr_spawn(&o, NULL, 0);
	for (jsize i = 0; i < n; i++)
		(*env)->ReleaseStringUTFChars(env, strings[i], argv[i]);
	return p;
}

JNIEXPORT jint JNICALL Java_JvmHost_write(JNIEnv *env, jclass unused, jlong p, jbyteArray data)
{
	jbyte *bytes = (*env)->GetByteArrayElements(env, data, NULL);
	ssize_t n = nr_write(p, bytes, (size_t)(*env)->GetArrayLength(env, data));

	(void)unused;
	(*env)->ReleaseByteArrayElements(env, data, bytes, JNI_ABORT);
	return (jint)n;
}

JNIEXPORT jint JNICALL Java_JvmHost_closeStdin(JNIEnv *env, jclass unused, jlong p)
{
	(void)env;
	(void)unused;
	return nr_close_stdin(p);
}

/* Waits for output, reads it, and returns how much it was; 0 is the end. */
JNIEXPORT jint JNICALL Java_JvmHost_read(JNIEnv *env, jclass unused, jlong p, jbyteArray data)
{
	jbyte buf[4096];
	ssize_t n;

	(void)unused;
	while ((n = nr_read(p, NR_STDOUT, buf, sizeof buf)) == -11) {
		struct pollfd out = { .fd = nr_fd(p, NR_STDOUT), .events = POLLIN };
		poll(&out, 1, -1);
	}
	if (n > 0)
		(*env)->SetByteArrayRegion(env, data, 0, (jsize)n, buf);
	return (jint)n;
}

/* Waits for the end, and returns the exit code or -1. */
JNIEXPORT jint JNICALL Java_JvmHost_end(JNIEnv *env, jclass unused, jlong p)
{
	nr_outcome how = { .size = sizeof how, .code = -1 };

	(void)env;
	(void)unused;
	if (nr_wait(p, -1, &how) || nr_release(p))
		return -1;
	return how.code;
}
